"""Run by two processes: generation with prompts prefilled once, from a model sharded by FSDP2."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ptdpo.models import load_model, load_processor
from ptdpo.models.shared_prefill import share_prefill
from tests.models.test_shared_prefill import ROWS, forwarded, prompts, sampled, sharp
from tests.models.test_shared_prefix import NOISE, OTHER

APART = [("red?", [NOISE]), ("what is blue?", [OTHER]), ("what is blue in the top row?", [OTHER])]
# What each process generates from, with which arguments, and how many rows its first forward reads.
CASES = [
    ((ROWS["groups"], APART), ({}, {}), (2, 3)),
    ((APART, ROWS["groups"]), ({}, {}), (3, 2)),
    ((APART, APART), ({}, {}), (3, 3)),
    ((ROWS["groups"], APART), ({}, {"use_cache": False}), (6, 3)),
]


def sharded(path):
    model = sharp(load_model(path))
    for layer in model.base_model.language_model.layers:
        fully_shard(layer)
    return fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))


def main(path, processor):
    dist.init_process_group("gloo")
    rank, plain, shared = dist.get_rank(), sharded(path), sharded(path)
    share_prefill(shared, together=True)
    seen, processor = forwarded(shared), load_processor(processor)
    for rows, arguments, read in CASES:
        inputs = prompts(processor, rows[rank])
        seen.clear()
        for model in (plain, shared):
            # transformers encodes images outside the model's forward; TRL gathers the root's weights for it.
            model.unshard()
        expected, logits = sampled(plain, {**inputs, **arguments[rank]})
        got, got_logits = sampled(shared, {**inputs, **arguments[rank]})
        assert torch.equal(got, expected)
        torch.testing.assert_close(got_logits, logits, rtol=0, atol=1e-4)
        width = inputs["input_ids"].shape[1]
        assert seen[0] == (read[rank], width), "rows of the first forward"
    dist.destroy_process_group()
