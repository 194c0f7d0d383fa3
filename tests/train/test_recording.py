"""What a run keeps: over the fake engine, then over TRL."""

import pytest
import torch

from ptdpo.report.run_view import settings_of_run
from ptdpo.runlog import GroupLine, QuestionLine, TokenLine, read_records
from ptdpo.train.method import Method
from ptdpo.train.method_settings import MethodSettings, RecordSettings, TutoringSettings
from ptdpo.train.metrics import read_metrics
from ptdpo.train.recording import asked_text
from ptdpo.tutor.head import Divergence
from tests.train.fake_engine import FakeEngine, FakeTeacher, scored
from tests.train.helpers import Alternating, make_trainer

K, HIDDEN, VOCABULARY = 6, 5, 11
IDS = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 7, 8], [9, 0, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)


def rows():
    return [
        {"id": str(n), "prompt": [{"role": "user", "content": f"q{n}"}], "answer": n, "hint": hint}
        for n, hint in ((0, {"look": "left", "reason": "count"}), (1, None))
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("q", "q"),
        ([{"type": "image"}, {"type": "text", "text": "q"}], "q"),
        ([{"type": "text", "text": "First: "}, {"type": "image"}, {"type": "text", "text": " which?"}],
         "First: <image> which?"),
    ],
)  # fmt: skip
def test_a_recorded_question_says_where_its_images_stand(content, text):
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": content}]
    assert asked_text(prompt) == text


def recorded(records, accuracy=(0.0, 1.0, 0.0, 0.0), **settings):
    generator = torch.Generator().manual_seed(3)
    table, weight, student, head = (
        torch.randn(shape, generator=generator)
        for shape in ((VOCABULARY, HIDDEN), (VOCABULARY, HIDDEN), (4, 3, HIDDEN), (VOCABULARY, HIDDEN))
    )
    engine = FakeEngine(rows())
    tutoring = TutoringSettings(divergence=Divergence(k=K), **settings)
    own = Method(engine, MethodSettings(tutoring=tutoring, records=records), FakeTeacher(table, weight, K))
    batch = engine.batch(engine.rows, IDS, MASK, torch.tensor(accuracy))
    prepared = own.prepare(batch)
    micro = engine.micro_batch(batch, prepared, [0, 1, 2, 3])
    own.begin_step([micro])
    micro = own.with_teacher_head(micro)
    found = scored(micro, student, head, K)
    own.loss(torch.zeros(()), micro, found)
    own.loss(torch.zeros(()), micro, found)
    return engine.lines, found, prepared


def of_kind(lines, kind):
    return [line for line in lines if isinstance(line, kind)]


def test_groups_say_who_was_tutored_and_why_not():
    lines, *_ = recorded(RecordSettings())
    groups = of_kind(lines, GroupLine)
    assert [(g.step, g.group, g.id, bool(g.hint_id)) for g in groups] == [(1, 0, "0", True), (1, 1, "1", False)]
    assert [[r.reason for r in g.rollouts] for g in groups] == [["tutored", "right"], ["no context", "no context"]]
    assert [r.advantage for r in groups[0].rollouts] == [-0.5, 0.5]
    assert groups[0].rollouts[1].response == "4 5 0"
    questions = of_kind(lines, QuestionLine)
    assert [(q.id, q.question, q.answer, q.hint) for q in questions] == [
        ("0", "q0", "0", "Look: left\nReason: count"),
        ("1", "q1", "1", ""),
    ]


@pytest.mark.parametrize("missing", [{}, {"id": None}, {"id": ""}])
def test_questions_without_ids_are_told_apart(missing):
    """By text, answer and images: hints alone may be the same, or not there."""
    engine = FakeEngine([
        {"prompt": [{"role": "user", "content": text}], "answer": answer, "images": images, **missing}
        for text, answer, images in (("q", 1, []), ("q", 2, []), ("r", 1, []), ("q", 1, ["blue"]), ("q", 1, []))
        for _ in range(2)
    ])  # fmt: skip
    batch = engine.batch(engine.rows, torch.ones(10, 1, dtype=torch.long), torch.ones(10, 1).bool(), torch.zeros(10))
    Method(engine, MethodSettings(records=RecordSettings())).prepare(batch)
    names = [line.id for line in of_kind(engine.lines, GroupLine)]
    assert len(set(names)) == 4
    assert names[0] == names[4]
    assert [line.id for line in of_kind(engine.lines, QuestionLine)] == names[:4]


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [({"threshold": 0.4}, ["threshold", "right"]), ({"select": "all_fail_groups"}, ["not selected", "right"])],
)
def test_why_a_failed_rollout_is_not_tutored(settings, reasons):
    lines, *_ = recorded(RecordSettings(), **settings)
    assert [r.reason for r in of_kind(lines, GroupLine)[0].rollouts] == reasons


def test_tokens_are_those_that_were_scored_once():
    lines, found, _ = recorded(RecordSettings())
    tokens = of_kind(lines, TokenLine)
    assert len(tokens) == 4, "each rollout once, though it is trained on twice"
    first = next(line for line in tokens if line.key == (1, 0, 0))
    assert first.ids == [1, 2, 3]
    assert first.log_probs == pytest.approx(found.log_probs[0].tolist(), abs=1e-6)
    assert first.entropy == pytest.approx(found.details.entropy[0].tolist(), abs=1e-6)
    assert first.divergence == pytest.approx(found.details.divergence.tolist(), abs=1e-6)
    assert first.texts["1"] == "1"
    assert len(first.teacher.ids[0]) == 5
    assert first.teacher.probs[0] == sorted(first.teacher.probs[0], reverse=True)
    untutored = next(line for line in tokens if line.key == (1, 1, 1))
    assert untutored.divergence is None
    assert untutored.teacher is None


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (3, 1), (5, 2), (8, 3), (9, 4)])
def test_tokens_are_bounded(limit, kept):
    lines, _, prepared = recorded(RecordSettings(tokens=limit))
    assert len(of_kind(lines, TokenLine)) == kept
    assert sum(record.kept is not None for record in prepared.records) == kept


def test_groups_are_bounded():
    lines, _, prepared = recorded(RecordSettings(groups=1))
    assert [line.group for line in of_kind(lines, GroupLine)] == [0]
    assert [record.kept is not None for record in prepared.records] == [True, True, False, False]


def test_nothing_is_kept_between_record_steps():
    generator = torch.Generator().manual_seed(1)
    engine = FakeEngine(rows())
    engine.step = 1
    own = Method(engine, MethodSettings(records=RecordSettings(steps=2)))
    own.prepare(engine.batch(engine.rows, IDS, MASK, torch.rand(4, generator=generator).round()))
    assert engine.lines == []


@pytest.mark.parametrize("preset", ["ptd-grpo", "grpo"])
def test_over_trl(tmp_path, tiny_path, processor, train_rows, preset):
    """Log-probabilities are those of the leading tokens, entropy's mean is the logged one, and lengths agree."""
    trainer = make_trainer(
        tmp_path, tiny_path, processor, train_rows, reward=Alternating(3), preset=preset, max_steps=1, temperature=0.7
    )
    trainer.train()
    records = read_records(tmp_path)
    groups, lines = list(records.groups.values()), list(records.tokens.values())
    assert len(lines) == sum(len(group.rollouts) for group in groups) == 8
    (logged,) = read_metrics(tmp_path / "metrics.jsonl")
    rollouts = {(g.step, g.group, r.rollout): r for g in groups for r in g.rollouts}
    assert all(rollouts[line.key].tokens == len(line.ids) for line in lines)
    entropies = [value for line in lines for value in line.entropy]
    # The logged one is a mean over micro-batches, of unequal length.
    assert sum(entropies) / len(entropies) == pytest.approx(logged["entropy"], rel=1e-2)
    assert groups[0].reader == "accuracy_reward"
    said = settings_of_run(tmp_path)
    assert (said["model"], said["train.temperature"]) == (tiny_path, "0.7")
    assert "train.output_dir" not in said
    assert records.question_of(groups[0]).images, "the image is kept with the question"
    seen = 0
    for line in lines:
        for n, one in enumerate(line.ids):
            if one in line.student.ids[n]:
                prob = line.student.probs[n][line.student.ids[n].index(one)]
                assert prob == pytest.approx(torch.tensor(line.log_probs[n]).exp().item(), abs=2e-4)
                seen += 1
    assert seen
    tutored = [line for line in lines if line.divergence is not None]
    if preset == "grpo":
        assert not tutored
        assert {r.reason for r in rollouts.values()} == {"off"}
    else:
        values = [value for line in tutored for value in line.divergence]
        assert sum(values) / len(values) == pytest.approx(logged["divergence"], rel=1e-3)
        assert {line.key for line in tutored} == {key for key, r in rollouts.items() if r.tutored}
