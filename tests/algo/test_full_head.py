"""The full-vocabulary divergence in chunks equals the one on whole logits."""

import pytest
import torch

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
