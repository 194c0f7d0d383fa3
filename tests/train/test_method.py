"""Routing, lessons and loss over an engine of forty lines, without TRL."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from ptdpo.algo.gates import FloorSettings
from ptdpo.algo.objectives import EPSILON
from ptdpo.train.method import Method
from ptdpo.train.method_settings import MethodSettings, ResamplingSettings, TutoringSettings
from ptdpo.train.rollouts.hinted import Chosen
from ptdpo.tutor.head import Divergence
from tests.reference.divergence import topk
from tests.train.fake_engine import FakeEngine, FakeTeacher, scored

VOCABULARY, HIDDEN, K = 11, 5, 4
IDS = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 7, 8], [9, 0, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
ACCURACY = torch.tensor([0.0, 1.0, 0.0, 0.0])


def rows(hints=(True, True)):
    return [
        {"id": str(n), "prompt": [{"role": "user", "content": f"q{n}"}], "hint": f"hint {n}" if hints[n] else None}
        for n in (0, 0, 1, 1)
    ]


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(3)
    table, weight, student, head = (
        torch.randn(shape, generator=generator)
        for shape in ((VOCABULARY, HIDDEN), (VOCABULARY, HIDDEN), (4, 3, HIDDEN), (VOCABULARY, HIDDEN))
    )
    return FakeTeacher(table, weight, K), student, head


def method(engine, teacher, **settings):
    settings = {"divergence": Divergence(k=K), **settings}
    return Method(engine, MethodSettings(tutoring=TutoringSettings(**settings)), teacher)


def test_failed_rollouts_become_lessons_and_right_ones_do_not(parts):
    teacher, *_ = parts
    engine = FakeEngine(rows((True, False)))
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    prepared = method(engine, teacher).prepare(batch)
    assert [record.reading.tokens for record in prepared.records] == [3, 0, 0, 0]
    assert [record.reading.in_tutored_group for record in prepared.records] == [True, True, False, False]
    assert [record.group for record in prepared.records] == [0, 0, 1, 1]
    (lesson,) = teacher.shown
    assert "hint 0" in lesson.messages[0]["content"]
    assert lesson.response_ids.tolist() == [1, 2, 3]
    assert torch.equal(prepared.advantages, batch.advantages)
    assert prepared.replaced is None
    assert engine.logged["tutored/rollouts"] == 1
    assert engine.logged["accuracy/tutored_groups"] == 0.5


def trained(engine, teacher, student, head, batch, cuts, **settings):
    """One optimiser step over the batch cut into micro-batches; returns loss, gradient of the student, and F."""
    own = method(engine, teacher, weight=0.5, **settings)
    prepared = own.prepare(batch)
    student = student.clone().requires_grad_()
    micros = [engine.micro_batch(batch, prepared, cut, parts=len(cuts)) for cut in cuts]
    own.begin_step(micros)
    loss = torch.zeros(())
    for micro, cut in zip(micros, cuts, strict=True):
        micro = own.with_teacher_head(micro)
        policy_loss = 0.25 * student[cut].sum()
        loss = loss + own.loss(policy_loss, micro, scored(micro, student[cut], head, K))
    own.end_step()
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.item(), gradient


@pytest.mark.parametrize("cuts", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[3], [2], [1], [0]]])
def test_the_loss_is_minus_j_plus_lambda_times_the_mean_divergence(parts, cuts):
    """(11) and (12) recomputed in Python numbers: the count is that of the step, however it is cut."""
    teacher, student, head = parts
    engine = FakeEngine(rows())
    loss, gradient = trained(engine, teacher, student, head, engine.batch(engine.rows, IDS, MASK, ACCURACY), cuts)

    def expected(states):
        logits = (states.double() @ head.double().T).tolist()
        truth = (teacher.table.double() @ teacher.weight.double().T).tolist()
        tutored = [(row, t) for row in (0, 2, 3) for t in range(int(MASK[row].sum()))]
        total = sum(topk(logits[row][t], truth[int(IDS[row, t])], K) for row, t in tutored)
        return 0.25 * states.double().sum().item() + 0.5 * total / (len(tutored) + EPSILON)

    assert loss == pytest.approx(expected(student), abs=1e-5)
    for place in ((0, 0, 1), (2, 2, 0), (3, 0, 4), (1, 0, 0), (3, 1, 0)):
        step = torch.zeros_like(student, dtype=torch.float64)
        step[place] = 1e-5
        numeric = (expected(student.double() + step) - expected(student.double() - step)) / 2e-5
        assert gradient[place].item() == pytest.approx(numeric, abs=1e-5), place
    assert engine.logged["tutored/tokens"] == 7


def test_what_is_tutored_in_the_place_of_rl_has_no_advantage(parts):
    teacher, *_ = parts
    engine = FakeEngine(rows((True, False)))
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    prepared = method(engine, teacher, keep_rl=False).prepare(batch)
    assert prepared.advantages.tolist() == [0.0, 0.5, -0.5, -0.5], "the failures without a hint keep theirs"


def test_a_closed_floor_leaves_the_policy_loss_alone(parts):
    """In the warm-up and below the floor; the teacher's entropy is logged either way."""
    teacher, student, head = parts
    engine = FakeEngine(rows())
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    own = method(engine, teacher, floor=FloorSettings(close=0.5, reopen=0.5, warm_up=1))
    prepared = own.prepare(batch)
    whole = engine.micro_batch(batch, prepared, [0, 1, 2, 3])
    terms = []
    for factor in (1.0, 1.0, 0.4):
        read = [record.reading.teacher for record in whole.records]
        dimmed = [None if one is None else replace(one, entropy=factor * one.entropy) for one in read]
        records = [
            replace(record, reading=replace(record.reading, teacher=one))
            for record, one in zip(whole.records, dimmed, strict=True)
        ]
        micro = replace(whole, records=records)
        own.begin_step([micro])
        micro = own.with_teacher_head(micro)
        terms.append(own.loss(torch.tensor(8.0), micro, scored(micro, student, head, K)).item() - 8.0)
        own.end_step()
    assert [term > 0 for term in terms] == [False, True, False]
    assert engine.logged["tutored/open"] == 0.0
    exact = torch.cat([one.entropy for one in read if one is not None]).mean().item()
    assert engine.logged["tutored/teacher_entropy"] == pytest.approx(0.4 * exact, rel=1e-6)


def test_the_mean_over_all_tokens_divides_by_all_of_them(parts):
    teacher, student, head = parts
    engine = FakeEngine(rows())
    batch, cuts = engine.batch(engine.rows, IDS, MASK, ACCURACY), [[0, 1], [2, 3]]
    tutored, of_all = (trained(engine, teacher, student, head, batch, cuts, mean=mean) for mean in ("tutored", "all"))
    policy = 0.25 * student.sum().item()
    assert (tutored[0] - policy) * 7 == pytest.approx((of_all[0] - policy) * 9, rel=1e-4)
    assert tutored[0] > policy


def test_a_part_has_its_share_of_j_and_a_filler_nothing(parts):
    """Rows that are read only because another process has more to read count elsewhere."""
    teacher, student, head = parts
    engine = FakeEngine(rows())
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    own = method(engine, teacher)
    prepared = own.prepare(batch)
    whole = engine.micro_batch(batch, prepared, [0, 1, 2, 3])
    own.begin_step([whole])

    def loss(share):
        micro = own.with_teacher_head(engine.micro_batch(batch, prepared, [0, 1, 2, 3], share=share))
        return own.loss(torch.tensor(8.0), micro, scored(micro, student, head, K)).item()

    term = loss(1.0) - 8.0
    assert term > 0
    assert loss(0.25) == pytest.approx(2.0 + term), "the sum over tutored tokens has the count of the step already"
    assert loss(0.0) == 0.0


def test_right_answers_drawn_under_the_context_take_the_place_of_failures(parts):
    teacher, *_ = parts
    engine = FakeEngine(
        rows(), sample=lambda row, prompt: [2, 2, 2, 2] if "hint" in prompt[0]["content"] else [1], grade=None
    )
    grades = iter([1.0, 0.0])
    engine.grade = lambda row, ids: next(grades)
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    own = method(engine, teacher, rollouts="teacher", select="all_fail_groups")
    prepared = own.prepare(batch)
    assert prepared.replaced == {2: [2, 2, 2, 2]}
    assert [record.reading.tokens for record in prepared.records] == [0, 0, 4, 0]
    assert prepared.advantages.tolist() == [-0.5, 0.5, 0.0, -0.5], "the policy did not draw it"
    assert batch.advantages.tolist() == [-0.5, 0.5, -0.5, -0.5], "what was given stays"
    assert batch.response_ids[2].tolist() == [6, 7, 8]
    assert engine.logged["tutored/exchanged"] == 0.25


def test_uninformative_groups_are_exchanged():
    data = [{"id": str(n), "prompt": [{"role": "user", "content": str(n)}]} for n in range(6)]
    turns = iter(range(1000))
    engine = FakeEngine(data, sample=lambda row, prompt: [int(row["id"]), next(turns) % 2])
    # Problems from 3 on are right every second time, the others always.
    engine.grade = lambda row, ids: 1.0 if int(row["id"]) < 3 else float(ids[1])
    own = Method(engine, MethodSettings(resampling=ResamplingSettings(rounds=20)))
    after = own.before_grading([data[0], data[0], data[4], data[4]])
    chosen, rollouts = after.rows, after.rollouts
    assert {row["id"] for row in chosen} <= {"3", "4", "5"}
    assert chosen[2:] == [data[4]] * 2
    assert [ids[0] for ids in rollouts.response_ids] == [int(row["id"]) for row in chosen]
    assert engine.logged["groups/resampled"] == 0.5
    assert engine.logged["groups/uninformative_left"] == 0.0


def test_without_parts_the_method_changes_nothing():
    engine = FakeEngine(rows())
    own = Method(engine, MethodSettings())
    batch = engine.batch(engine.rows, IDS, MASK, ACCURACY)
    prepared = own.prepare(batch)
    assert own.terms == []
    assert prepared.advantages is batch.advantages
    assert own.before_grading(engine.rows) == Chosen(engine.rows)


@pytest.mark.slow
def test_the_method_loads_no_engine():
    """TRL does not stand behind what this file has tested."""
    code = "import ptdpo.train.method, sys; print([name for name in sys.modules if 'trl' in name.split('.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
