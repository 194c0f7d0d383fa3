"""The full-vocabulary divergence in chunks equals the one on whole logits."""

import pytest
import torch

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.divergence import full_divergence
from ptdpo.algo.full_head import full_head_divergence
from ptdpo.algo.lm_head import teacher_topk


@pytest.mark.parametrize("kind", ["jsd", "forward_kl", "reverse_kl"])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_chunks_equal_whole_logits(kind, clip, monkeypatch):
    monkeypatch.setattr("ptdpo.algo.full_head._LOGITS", 150)
    hidden, theirs = torch.randn(2, 7, 6, dtype=torch.float64)
    weight, other = torch.randn(2, 50, 6, dtype=torch.float64)
    leaves = [hidden.requires_grad_(), weight.requires_grad_()]
    teacher = teacher_topk(theirs, other, k=1, temperature=0.7)
    got = full_head_divergence(hidden, weight, None, teacher, temperature=0.7, kind=kind, clip=clip)
    expected = full_divergence(hidden @ weight.T / 0.7, theirs @ other.T / 0.7, kind=kind, clip=clip)
    torch.testing.assert_close(got, expected)
    for mine, reference in zip(
        torch.autograd.grad(got.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_another_vocabulary_is_refused():
    teacher = teacher_topk(torch.randn(2, 3), torch.randn(9, 3), k=1)
    with pytest.raises(ValueError, match="9 ids and 8 ids"):
        full_head_divergence(torch.randn(2, 3), torch.randn(8, 3), None, teacher, temperature=1.0, kind="jsd")


@pytest.mark.parametrize("score", ["full", "dense"])
def test_autocast_rounds_operands_not_logits(score):
    """The difference of two close models drowns in logits rounded to bfloat16."""
    hidden, weight = torch.randn(6, 32), torch.randn(500, 32)
    theirs = hidden + 0.02 * torch.randn(6, 32)
    exact = (t.bfloat16().double() for t in (hidden, theirs, weight))
    states, other, head = exact
    expected = full_divergence(states @ head.T, other @ head.T)
    teacher = teacher_topk(theirs.bfloat16(), weight.bfloat16(), k=500)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if score == "full":
            got = full_head_divergence(hidden, weight, None, teacher, temperature=1.0, kind="jsd")
        else:
            targets = torch.zeros(6, dtype=torch.long)
            got = dense_token_stats(hidden, weight, targets, teacher=teacher, k=500).divergence
    torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-7)
