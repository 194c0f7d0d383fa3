"""The classes of docs/other_trainers.md are those of other libraries, where K is the whole vocabulary."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from ptdpo.algo.lm_head import teacher_topk
from tests.reference.divergence import full

PAGE = Path(__file__).parents[2] / "docs" / "other_trainers.md"
N, H, V, TEACHER_H = 7, 8, 40, 12


def documented(name, *changes):
    """Return a class of the page, its code changed by these (old, new) pairs."""
    code = next(code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if f"class {name}" in code)
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    namespace = {"__name__": "page"}
    exec(code, namespace)
    return namespace[name]


def operands(*shapes):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw, requires_grad=True) for shape in shapes]


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


def test_trl_gkd(tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl.experimental.gkd import GKDTrainer

    sizes = {"vocab_size": V, "hidden_size": H, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 4,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    torch.manual_seed(0)
    student, teacher = (Qwen3ForCausalLM(Qwen3Config(**sizes)).eval() for _ in range(2))
    ids = torch.randint(V, (2, 9))
    labels = ids.clone()
    labels[0, :4] = labels[1, :3] = labels[1, 7:] = -100
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    losses = []
    for trainer in (GKDTrainer, documented("TopKGKDTrainer", ("k=100", f"k={V}"))):
        made = trainer.__new__(trainer)
        made.teacher_model, made.beta = teacher, 0.5
        losses.append(made.compute_loss(student, inputs, num_items_in_batch=torch.tensor(6)))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-7)
    weights = list(student.parameters())
    for one, other in zip(gradients(losses[1], *weights), gradients(losses[0], *weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert losses[0] > 1e-3


def test_liger_jsd():
    liger = pytest.importorskip("liger_kernel.chunked_loss", reason="pip install liger-kernel to compare with it")
    states, weight, seen, head = operands((N, H), (V, H), (N, TEACHER_H), (V, TEACHER_H))
    labels = torch.tensor([3, -100, 5, 1, 0, -100, 39])
    settings = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "temperature": 0.7, "compiled": False}
    theirs = liger.LigerFusedLinearJSDLoss(**settings)(states, weight, seen.detach(), head.detach(), labels)
    ours = documented("TopKLinearJSDLoss")(k=V, temperature=0.7)(states, weight, seen, head, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients(ours, states, weight), gradients(theirs, states, weight), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_verl_linear():
    found = importlib.util.find_spec("verl")
    if found is None:
        pytest.skip("pip install verl to compare with it")
    # The file needs torch alone, its package ray.
    file = Path(found.origin).parent / "utils" / "experimental" / "torch_functional.py"
    spec = importlib.util.spec_from_file_location("verl_torch_functional", file)
    verl = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verl)
    states, weight = operands((2, N, H), (V, H))
    ids = torch.randint(V, (2, N), generator=torch.Generator().manual_seed(1))
    draw = torch.randn(2, 2, N, generator=torch.Generator().manual_seed(2))
    results = [
        made(states, weight, ids, 0.7) for made in (verl.FusedLinearForPPO(), documented("TutoredLinearForPPO")())
    ]
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    grads = [gradients((draw[0] * log_prob + draw[1] * entropy).sum(), states, weight) for log_prob, entropy in results]
    for theirs, ours in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_tutored_linear_keeps_the_divergence():
    states, weight, seen, head = operands((2, N, H), (V, H), (3, TEACHER_H), (V, TEACHER_H))
    ids, rows = torch.zeros(2, N, dtype=torch.long), torch.tensor([1, 4, 9])
    layer = documented("TutoredLinearForPPO")()
    layer(states, weight, ids, 0.7, teacher_topk(seen, head, temperature=0.7), rows)
    student, teacher = states.flatten(0, 1)[rows] @ weight.t() / 0.7, seen @ head.t() / 0.7
    expected = [full(*pair) for pair in zip(student.tolist(), teacher.tolist(), strict=True)]
    torch.testing.assert_close(layer.divergence, torch.tensor(expected), rtol=1e-4, atol=1e-6)
