"""The fused head against its dense float64 reference: values, gradients, edge cases, memory, refusals."""

import itertools
import math
from inspect import unwrap  # the plain function, as users call it: without the test suite's shape checks

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.lm_head import concatenate, teacher_topk, token_stats
from tests.reference import divergence as naive

KINDS = ("jsd", "forward_kl", "reverse_kl")
SUPPORTS = ("union", "student", "teacher")
TAILS = ("bucket", "none", "student")
# Where the teacher has nothing outside the support, KL(student‖teacher) is infinite.
KIND_TAILS = [pair for pair in itertools.product(KINDS, TAILS) if pair != ("reverse_kl", "student")]
OUTPUTS = ("log_prob", "entropy", "divergence")
METRICS = ("overlap", "student_tail", "teacher_tail")


class Case:
    """Random student and teacher, in float64; the reference and the fused head see the same numbers."""

    def __init__(self, tokens=11, vocabulary=150, size=12, tutored=6, bias=False, scale=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.hidden, self.weight = scale * draw(tokens, size), draw(vocabulary, size)
        self.bias = draw(vocabulary) if bias else None
        self.targets = torch.randint(vocabulary, (tokens,), generator=generator)
        self.rows = torch.randperm(tokens, generator=generator)[:tutored]
        self.teacher_hidden = self.hidden[self.rows] + 0.7 * scale * draw(tutored, size)
        self.teacher_weight = self.weight + 0.1 * draw(vocabulary, size)
        self.teacher_bias = draw(vocabulary) if bias else None
        self.upstream = [draw(tokens), draw(tokens), draw(tutored)]

    def cast(self, dtype):
        """Round to a type and back, so that both sides start from the same rounded numbers."""
        for name in ("hidden", "weight", "bias", "teacher_hidden", "teacher_weight", "teacher_bias"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(dtype).double())
        return self

    def run(self, score=token_stats, dtype=torch.float64, outputs=OUTPUTS, teacher_k=None, chunks=None, **settings):
        """Return (stats, gradients of hidden, weight, bias) of a random linear function of the outputs."""

        def at(tensor):
            return None if tensor is None else tensor.to(dtype)

        leaves = [None if t is None else at(t).clone().requires_grad_() for t in (self.hidden, self.weight, self.bias)]
        k, temperature = settings.get("k", 100), settings.get("temperature", 1.0)
        record = teacher_topk(
            at(self.teacher_hidden),
            at(self.teacher_weight),
            at(self.teacher_bias),
            k=teacher_k or k,
            temperature=temperature,
            row_chunk=(chunks or {}).get("row_chunk"),
        )
        stats = score(
            leaves[0], leaves[1], self.targets, leaves[2], teacher=record, rows=self.rows, **settings, **(chunks or {})
        )
        terms = [(getattr(stats, n) * u).sum() for n, u in zip(OUTPUTS, self.upstream, strict=True) if n in outputs]
        sum(terms).backward()
        return stats, [leaf.grad for leaf in leaves if leaf is not None]

    def compare(self, dtype=torch.float64, value=1e-12, gradient=1e-12, outputs=OUTPUTS, chunks=None, **settings):
        """Compare with the dense float64 reference; tolerances: absolute for values, relative norm for gradients."""
        self.cast(dtype)
        got, got_gradients = self.run(dtype=dtype, outputs=outputs, chunks=chunks, **settings)
        expected, gradients = self.run(dense_token_stats, outputs=outputs, **settings)
        for name in (*OUTPUTS, *METRICS):
            difference = (getattr(got, name).double() - getattr(expected, name)).abs().max().item()
            assert difference <= value * max(1.0, getattr(expected, name).abs().max().item()), name
        for mine, reference in zip(got_gradients, gradients, strict=True):
            assert (mine.double() - reference).norm() <= gradient * reference.norm()
            assert mine.dtype == dtype


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("k", [1, 7, 80, 150, 400])
def test_every_setting_equals_the_dense_reference(kind, support, tail, k):
    Case(bias=k == 7).compare(kind=kind, support=support, tail=tail, k=k, temperature=0.7 if k == 80 else 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_values_equal_the_naive_formulas(kind, support):
    case = Case(tutored=3, vocabulary=40)
    stats, _ = case.run(kind=kind, support=support, k=5)
    student, teacher = case.hidden @ case.weight.T, case.teacher_hidden @ case.teacher_weight.T
    for n, row in enumerate(case.rows.tolist()):
        expected = naive.topk(student[row].tolist(), teacher[n].tolist(), 5, kind=kind, support=support)
        assert stats.divergence[n].item() == pytest.approx(expected, abs=1e-12)
        p = naive.softmax(student[row].tolist())
        assert stats.log_prob[row].item() == pytest.approx(math.log(p[case.targets[row]]), abs=1e-12)
        assert stats.entropy[row].item() == pytest.approx(-math.fsum(x * math.log(x) for x in p), abs=1e-12)


@pytest.mark.parametrize("outputs", [("log_prob",), ("entropy",), ("divergence",), ("log_prob", "divergence")])
def test_each_output_alone_has_its_exact_gradient(outputs):
    Case().compare(k=9, outputs=outputs)


@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(bias):
    case = Case(tokens=5, vocabulary=23, size=4, tutored=3, bias=bias)
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, case.teacher_bias, k=4)

    def stats(hidden, weight, *rest):
        return token_stats(hidden, weight, case.targets, *rest, teacher=record, rows=case.rows, k=4, vocab_chunk=7)[:3]

    leaves = [t.clone().requires_grad_() for t in (case.hidden, case.weight, case.bias) if t is not None]
    assert torch.autograd.gradcheck(stats, leaves)


def test_float32_meets_its_tolerances():
    Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=0.5).compare(torch.float32, 1e-6, 1e-6, k=50)


def test_float32_on_very_peaked_logits():
    case = Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=6.0)
    assert (case.hidden @ case.weight.T).softmax(-1).amax(-1).median() > 0.99
    case.compare(torch.float32, 3e-5, 1e-5, k=50)


def test_bfloat16_operands_are_multiplied_in_float32():
    case = Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=0.5)
    stats, _ = case.cast(torch.bfloat16).run(dtype=torch.bfloat16, k=50)
    assert {getattr(stats, name).dtype for name in (*OUTPUTS, *METRICS)} == {torch.float32}
    case.compare(torch.bfloat16, 1e-5, 5e-3, k=50)


@pytest.mark.parametrize("chunks", [{"row_chunk": 1, "vocab_chunk": 1}, {"row_chunk": 4, "vocab_chunk": 64}, {}])
def test_chunk_sizes_do_not_change_the_result(chunks):
    Case(vocabulary=131).compare(k=9, chunks=chunks)


def test_many_rows_take_several_blocks(monkeypatch):
    monkeypatch.setattr("ptdpo.algo.fused._BACKWARD_ROWS", 4)
    Case().compare(k=9)


def test_order_of_rows_does_not_matter():
    case = Case()
    stats, gradients = case.run(k=9)
    order = torch.randperm(len(case.rows))
    case.rows, case.teacher_hidden = case.rows[order], case.teacher_hidden[order]
    case.upstream[2] = case.upstream[2][order]
    again, others = case.run(k=9)
    torch.testing.assert_close(again.divergence, stats.divergence[order])
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other)


def test_teacher_and_student_may_keep_different_numbers_of_ids():
    case = Case()
    narrow, _ = case.run(k=5, teacher_k=20)
    wide, _ = case.run(k=20)
    assert (narrow.divergence <= wide.divergence + 1e-12).all()
    assert (narrow.divergence > 0).all()


def test_teacher_may_have_another_hidden_size():
    case = Case()
    record = teacher_topk(torch.randn(6, 5), torch.randn(150, 5), k=9)
    stats = token_stats(case.hidden.float(), case.weight.float(), case.targets, teacher=record, rows=case.rows, k=9)
    assert (stats.divergence > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 9, 150])
def test_identical_distributions_give_exactly_zero_and_no_gradient(kind, k):
    case = Case(tutored=11)
    hidden = case.hidden.float().requires_grad_()
    record = teacher_topk(hidden.detach(), case.weight.float(), k=k)
    value = token_stats(hidden, case.weight.float(), case.targets, teacher=record, k=k, kind=kind).divergence
    value.sum().backward()
    assert value.abs().max() <= (0 if kind == "jsd" else 1e-6)
    assert hidden.grad.abs().max() <= 2e-6


def test_disjoint_distributions_reach_ln_2():
    never = -torch.inf
    hidden = torch.zeros(2, 3).requires_grad_()
    weight = torch.randn(4, 3)
    bias, teacher_bias = torch.tensor([1.0, 2.0, never, never]), torch.tensor([never, never, 0.5, 1.0])
    for k in (2, 4):
        record = teacher_topk(torch.zeros(2, 3), weight, teacher_bias, k=k)
        stats = token_stats(hidden, weight, torch.tensor([0, 1]), bias, teacher=record, k=k)
        assert stats.divergence.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)
        (gradient,) = torch.autograd.grad(stats.divergence.sum(), hidden)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_a_tail_that_underflows_stays_finite(kind, support):
    weight = torch.eye(40)
    student, teacher = torch.full((2, 2, 40), -200.0)
    student[0, 0], teacher[0, 0], student[1, 0], teacher[1, 1] = 100.0, 100.0, 60.0, 60.0
    student.requires_grad_()
    stats = token_stats(
        student,
        weight,
        torch.tensor([0, 1]),
        teacher=teacher_topk(teacher, weight, k=2),
        k=2,
        kind=kind,
        support=support,
    )
    sum(part.sum() for part in stats[:3]).backward()
    assert stats.divergence.isfinite().all()
    assert student.grad.isfinite().all()
    assert stats.divergence[0] == 0


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("k", [4, 8, 10, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_impossible_tokens_on_both_sides(kind, support, tail, k, dtype, tolerance):
    """A union that names every possible token leaves no mass outside, on either side."""
    case = Case(vocabulary=12, tokens=20, tutored=20, bias=True)
    case.bias[[3, 7]] = case.teacher_bias[[3, 7]] = -torch.inf
    case.targets = torch.full_like(case.targets, 5)
    case.compare(kind=kind, support=support, tail=tail, k=k, dtype=dtype, value=tolerance, gradient=tolerance)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl"])
def test_tails_that_the_other_side_uses_up_stay_finite(kind):
    """Rounding leaves nothing of the teacher's rest when the student names almost all of it."""
    teacher, student = torch.full((1, 300), -30.0), torch.full((1, 300), -30.0)
    teacher[0, :10], teacher[0, 10:20] = 5.0, 1.0
    student[0, 10:20] = 5.0
    weight = torch.eye(300)
    target, settings = torch.tensor([0]), {"k": 10, "kind": kind}
    exact_record = teacher_topk(teacher.double(), weight.double(), k=10)
    exact = dense_token_stats(student.double(), weight.double(), target, teacher=exact_record, **settings)
    got = token_stats(student, weight, target, teacher=teacher_topk(teacher, weight, k=10), **settings)
    torch.testing.assert_close(got.divergence.double(), exact.divergence, rtol=1e-5, atol=1e-5)


def test_no_compared_row_and_no_row_at_all():
    case = Case()
    hidden, weight = case.hidden.requires_grad_(), case.weight.requires_grad_()
    stats = token_stats(hidden, weight, case.targets)
    assert [stats.divergence.shape, stats.overlap.shape] == [(0,), (0,)]
    (stats.log_prob.sum() + stats.divergence.sum()).backward()
    expected = torch.autograd.grad(dense_token_stats(hidden, weight, case.targets).log_prob.sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    empty = token_stats(hidden[:0], weight, case.targets[:0], teacher=teacher_topk(hidden[:0], weight))
    assert empty.log_prob.shape == empty.divergence.shape == (0,)
    (gradient,) = torch.autograd.grad(empty.log_prob.sum() + empty.divergence.sum(), weight)
    assert (gradient == 0).all()


def test_gradients_only_where_they_are_wanted():
    case = Case()
    record = teacher_topk(case.teacher_hidden.requires_grad_(), case.teacher_weight.requires_grad_(), k=9)
    assert not any(t.requires_grad for t in (record.log_probs, record.log_rest, record.log_normaliser))
    for leaf in (case.hidden, case.weight):
        leaf.requires_grad_()
        stats = token_stats(case.hidden, case.weight, case.targets, teacher=record, rows=case.rows, k=9)
        stats.divergence.sum().backward()
        assert leaf.grad.abs().sum() > 0
        leaf.requires_grad_(False)
    assert case.teacher_hidden.grad is None
    assert case.teacher_weight.grad is None
    with torch.no_grad():
        assert not token_stats(case.hidden, case.weight, case.targets).log_prob.requires_grad


def test_a_gradient_step_reduces_the_divergence():
    """The released reference code has a zero gradient here."""
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    hidden = case.hidden.requires_grad_()

    def value(states):
        return token_stats(states, case.weight, case.targets, teacher=record, rows=case.rows, k=9).divergence.sum()

    (gradient,) = torch.autograd.grad(value(hidden), hidden)
    assert value(hidden - 0.01 * gradient) < value(hidden)


def test_records_are_sliced_joined_and_stored_without_their_head():
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    stored = [record.with_head(None)[:2], record.with_head(None)[2:]]
    assert [part.weight for part in stored] == [None, None]
    joined = concatenate(stored).to("cpu").with_head(case.teacher_weight)
    a = token_stats(case.hidden, case.weight, case.targets, teacher=record, rows=case.rows, k=9)
    b = token_stats(case.hidden, case.weight, case.targets, teacher=joined, rows=case.rows, k=9)
    assert torch.equal(a.divergence, b.divergence)
    with pytest.raises(ValueError, match="share k"):
        concatenate([record, teacher_topk(case.teacher_hidden, case.teacher_weight, k=8)])
    with pytest.raises(ValueError, match="no teacher record"):
        concatenate([])


def test_probabilities_at_any_id_without_a_head_product():
    case = Case(tokens=30, vocabulary=4_000, tutored=30)
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=20)
    ids = torch.randint(4_000, (30, 20))
    with FlopCounterMode(display=False) as counter:
        got = record.log_probs_at(ids)
    expected = (case.teacher_hidden @ case.teacher_weight.T).log_softmax(-1).gather(-1, ids)
    torch.testing.assert_close(got, expected)
    assert 0 < counter.get_total_flops() <= 0.05 * 2 * case.teacher_hidden.numel() * 4_000


def test_bfloat16_autocast_rounds_operands_only():
    case = Case(scale=0.5)
    hidden, weight = case.hidden.float().requires_grad_(), case.weight.float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        record = teacher_topk(case.teacher_hidden.float(), case.teacher_weight.float(), k=9)
        stats = token_stats(hidden, weight, case.targets, teacher=record, rows=case.rows, k=9)
        stats.divergence.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    expected, _ = case.cast(torch.bfloat16).run(k=9)
    torch.testing.assert_close(stats.divergence.double(), expected.divergence, rtol=1e-5, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_the_logits_are_never_held():
    case = Case(tokens=96, vocabulary=5_000, size=8, tutored=90)
    chunks = {"row_chunk": 4, "vocab_chunk": 200}
    with LargestTensor() as fused:
        case.run(k=9, chunks=chunks)
    with LargestTensor() as dense:
        case.run(dense_token_stats, k=9)
    assert dense.largest >= 90 * 5_000
    assert fused.largest <= max(4 * 5_056, 96 * 200, 5_000 * 8)


def refused(message, **changes):
    case = Case()
    given = {"hidden": case.hidden, "weight": case.weight, "targets": case.targets, "k": 9, "rows": case.rows}
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    given = {"teacher": record, **given, **changes}
    with pytest.raises(ValueError, match=message):
        unwrap(token_stats)(**given)


OTHER_VOCABULARY = teacher_topk(torch.ones(6, 3), torch.ones(151, 3))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"hidden states \(11, 7\) and head \(150, 12\)", {"hidden": torch.randn(11, 7)}),
        ("floating point, got torch.int64", {"hidden": torch.ones(11, 12, dtype=torch.long)}),
        ("NaN or infinity", {"hidden": torch.full((11, 12), torch.nan)}),
        ("bias has shape", {"bias": torch.zeros(3)}),
        ("11 hidden states need as many targets", {"targets": torch.zeros(3, dtype=torch.long)}),
        ("targets must lie in .* got 150 to 150", {"targets": torch.full((11,), 150)}),
        ("targets must be integers", {"targets": torch.zeros(11)}),
        ("rows must lie in .* got 0 to 11", {"rows": torch.tensor([0, 1, 2, 3, 4, 11])}),
        ("rows must lie in .* got -1 to 4", {"rows": torch.tensor([0, 1, 2, 3, 4, -1])}),
        ("rows holds an index twice", {"rows": torch.tensor([0, 1, 2, 3, 4, 4])}),
        ("teacher holds 6 tokens but 2 rows", {"rows": torch.tensor([0, 1])}),
        ("6 rows are to be compared but there is no teacher", {"teacher": None}),
        ("k must be at least 1, got 0", {"k": 0}),
        ("temperature must be positive, got 0", {"temperature": 0.0}),
        ("read at temperature 1.0, the student at 0.5", {"temperature": 0.5}),
        ("row_chunk must be at least 1", {"row_chunk": 0}),
        ("vocab_chunk must be at least 1", {"vocab_chunk": 0}),
        ("kind must be one of", {"kind": "js"}),
        ("teacher's head has 151 ids, the student's 150", {"teacher": OTHER_VOCABULARY}),
        ("stored without its head", {"teacher": OTHER_VOCABULARY.with_head(None)}),
    ],
)
def test_bad_input_is_named(message, changes):
    refused(message, **changes)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("k must be at least 1, got -3", {"k": -3}),
        ("teacher's hidden states .* NaN", {"hidden": torch.full((2, 3), torch.nan)}),
        ("teacher's hidden states must be floating", {"hidden": torch.ones(2, 3, dtype=torch.int32)}),
        ("temperature must be positive", {"temperature": -1.0}),
        ("row_chunk must be at least 1", {"row_chunk": -1}),
    ],
)
def test_bad_teachers_are_named(message, changes):
    with pytest.raises(ValueError, match=message):
        unwrap(teacher_topk)(**{"hidden": torch.randn(2, 3), "weight": torch.randn(5, 3), **changes})


@given(
    tokens=st.integers(1, 9),
    vocabulary=st.integers(2, 300),
    size=st.integers(1, 9),
    k=st.integers(1, 40),
    row_chunk=st.integers(1, 10),
    vocab_chunk=st.integers(1, 300),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_any_shape_equals_the_dense_reference(tokens, vocabulary, size, k, row_chunk, vocab_chunk, seed, data):
    case = Case(tokens, vocabulary, size, data.draw(st.integers(1, tokens)), seed=seed)
    case.compare(value=1e-9, gradient=1e-9, k=k, chunks={"row_chunk": row_chunk, "vocab_chunk": vocab_chunk})


def test_activation_checkpointing_around_the_head():
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    leaves = [case.hidden.requires_grad_(), case.weight.requires_grad_()]

    def loss(hidden, weight):
        stats = token_stats(hidden, weight, case.targets, teacher=record, rows=case.rows, k=9)
        return stats.log_prob.sum() + stats.divergence.sum()

    expected = torch.autograd.grad(loss(*leaves), leaves)
    got = torch.autograd.grad(torch.utils.checkpoint.checkpoint(loss, *leaves, use_reentrant=False), leaves)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
