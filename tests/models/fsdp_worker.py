"""Run by two processes: five steps under FSDP2 on two processes, scored in the plain and in the shared layout."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ptdpo.algo.lm_head import teacher_topk
from ptdpo.models import load_model, load_processor, shared_prefix
from ptdpo.tutor.head import Divergence, ScoreRequest, TeacherView, add_scoring_head, head_of
from tests.models.test_shared_prefix import CASES, batch


def train(path, layout, head, inputs, mask):
    """Return the parameters before and after five steps of plain gradient descent."""
    model = load_model(path).eval()
    add_scoring_head(model, share_prefix=layout == "shared")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.base_model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    start = {name: p.full_tensor().clone() for name, p in model.named_parameters()}
    targets = inputs["input_ids"][:, -mask.size(1) :]
    # Outside a forward the head is sharded: this gathers it.
    teacher_head = head_of(model)
    states = torch.randn(int(mask.sum()), teacher_head.weight.size(1), generator=torch.Generator().manual_seed(1))
    record = teacher_topk(states, teacher_head.weight.detach().clone(), k=10)
    view = TeacherView(mask, record)
    request = ScoreRequest(targets, mask, teacher=view, divergence=Divergence(k=10), head=head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(5):
        scored = model(**inputs, score=request)
        (scored.details.divergence.mean() - scored.log_probs.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return start, {name: p.full_tensor().clone() for name, p in model.named_parameters()}


def main(path, processor, out):
    dist.init_process_group("gloo")
    names = ["two groups of unequal responses", "with and without images"]
    inputs, mask = batch(load_processor(processor), CASES[names[dist.get_rank()]])
    pack, packed = shared_prefix._pack, []
    shared_prefix._pack = lambda *given: (packed.append(len(given[2])), pack(*given))[1]
    start, reference = train(path, "plain", "dense", inputs, mask)
    assert not packed
    result = {"moved": max((reference[n] - start[n]).abs().max().item() for n in start)}
    for layout, head in (("plain", "fused"), ("shared", "dense"), ("shared", "fused")):
        packed.clear()
        _, got = train(path, layout, head, inputs, mask)
        assert len(packed) == (5 if layout == "shared" else 0), "steps whose rows were packed"
        result[f"{layout} {head}"] = max((reference[n] - got[n]).abs().max().item() for n in start)
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(result))
    dist.destroy_process_group()
