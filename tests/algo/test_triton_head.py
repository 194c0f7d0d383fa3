"""Triton's kernels, interpreted on the CPU, against the dense float64 reference. ``make gpu`` runs them compiled."""

import functools
import inspect
import itertools
import math
from inspect import unwrap  # the plain function, without the shape checks of the suite

import pytest
import torch

pytest.importorskip("triton")
from triton.language import core
from triton.runtime import interpreter

from ptdpo.algo.backends import chosen
from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.lm_head import teacher_topk, token_stats
from tests.algo import test_lm_head
from tests.algo.head_case import KIND_TAILS, SUPPORTS, Case

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="make gpu runs the compiled kernels")


@functools.cache
def names_of_builtins(package):
    return [name for name, member in inspect.getmembers(package) if core.is_builtin(member)]


def patch_builtin(package, builder, scope):
    """As the interpreter does it at every call, but the language is searched for its functions once: half the time."""
    for name in names_of_builtins(package):
        member = getattr(package, name)
        if core.is_builtin(member):
            interpreter._patch_attr(package, name, member, builder, scope)


@pytest.fixture(autouse=True)
def _triton_teacher(monkeypatch):
    """Both sides of every case are read by the kernels."""
    monkeypatch.setattr(interpreter, "_patch_builtin", patch_builtin, raising=False)
    monkeypatch.setattr(test_lm_head, "teacher_topk", functools.partial(teacher_topk, backend="triton"))


class TritonCase(Case):
    """A case whose fused side runs on Triton."""

    def run(self, score=token_stats, **settings):
        if score is not dense_token_stats:
            score = functools.partial(score, backend="triton")
        return super().run(score, **settings)


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_every_setting_equals_the_dense_reference(kind, support, tail):
    TritonCase(tokens=4, tutored=2, bias=True).compare(kind=kind, support=support, tail=tail, k=7, temperature=0.7)


@pytest.mark.parametrize("k", [1, 80, 150])
def test_any_number_of_ids_is_selected(k):
    TritonCase(tokens=3, tutored=2).compare(k=k)


@pytest.mark.parametrize(("dtype", "value", "gradient"), [(torch.float32, 1e-6, 1e-6), (torch.bfloat16, 1e-5, 8e-3)])
def test_narrow_types_meet_their_tolerances(dtype, value, gradient):
    TritonCase(tokens=9, vocabulary=700, size=32, tutored=6, scale=0.5).compare(dtype, value, gradient, k=10)


@pytest.mark.parametrize("output", ["log_prob", "entropy", "divergence"])
def test_each_output_alone_has_its_exact_gradient(output):
    TritonCase(tokens=3, tutored=2).compare(k=9, outputs=(output,))


def test_tokens_without_kept_shares_are_computed_again(monkeypatch):
    monkeypatch.setattr("ptdpo.algo.triton_calls.KEPT_BYTES", 3 * 192 * 8)
    TritonCase(tokens=7, tutored=3).compare(k=9, chunks={"row_chunk": 2})


def test_a_second_backward_pass_equals_the_first():
    case = Case(tokens=4, tutored=2)
    hidden = case.hidden.clone().requires_grad_()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=5, backend="triton")
    stats = token_stats(hidden, case.weight, case.targets, teacher=record, rows=case.rows, k=5, backend="triton")
    loss = stats.log_prob.sum() + stats.divergence.sum()
    first, second = (torch.autograd.grad(loss, hidden, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_equal_logits_select_k_ids():
    record = teacher_topk(torch.zeros(2, 4), torch.randn(200, 4), k=6, backend="triton")
    assert all(len(set(ids)) == 6 for ids in record.ids.tolist())
    torch.testing.assert_close(record.log_rest.exp(), torch.full((2,), 194 / 200))


def test_of_equal_logits_only_what_larger_ones_leave_free_is_selected():
    bias = torch.zeros(200)
    bias[[7, 150]] = 2.0
    record = teacher_topk(torch.zeros(1, 4), torch.randn(200, 4), bias, k=5, backend="triton")
    assert set(record.ids[0, :2].tolist()) == {7, 150}
    assert record.ids[0, 2:].tolist() == [0, 1, 2]
    total = 2 * math.exp(2.0) + 198
    assert record.log_rest.exp().item() == pytest.approx(195 / total)


def test_excluded_ids_are_never_selected():
    bias = torch.zeros(130)
    bias[::2] = -torch.inf
    record = teacher_topk(torch.randn(3, 4), torch.randn(130, 4), bias, k=65, backend="triton")
    assert (record.ids % 2 == 1).all()
    assert (record.log_rest == -torch.inf).all()


def test_a_backend_is_chosen_by_device_and_name():
    assert chosen("auto", torch.empty(1)) == "torch"
    assert chosen("triton", torch.empty(1)) == "triton"
    with pytest.raises(ValueError, match="backend must be one of auto, torch, triton, got 'cuda'"):
        unwrap(chosen)("cuda", torch.empty(1))


def test_no_backward_pass_keeps_nothing():
    case = Case(tokens=3, tutored=1)
    for enabled, kept in itertools.product((False, True), repeat=2):
        with torch.set_grad_enabled(enabled):
            stats = token_stats(case.hidden.clone().requires_grad_(kept), case.weight, case.targets, backend="triton")
        function = stats.log_prob.grad_fn
        assert (getattr(function, "shares", None) is not None) == (enabled and kept)
