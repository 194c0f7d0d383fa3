"""Adaptive hints: the vaguest hint with which a rollout is right, asked once, remembered, and shown to the teacher."""

import pytest
import torch

from ptdpo.data.contexts import context_named
from ptdpo.data.prompts import conversation
from ptdpo.runlog import read_records
from ptdpo.train.layout import layout_of
from ptdpo.train.rollouts.hint_choice import HintChoices, choose_hints, hints_key
from ptdpo.train.settings import PTDConfig, settings_as_written
from ptdpo.train.trl.method_state import HINTS_FILE, HintState
from ptdpo.train.trl.setup import refuse_foreign_rollouts
from ptdpo.tutor.context import hint_levels
from tests.train.fake_engine import FakeEngine
from tests.train.helpers import always_wrong, make_trainer, metrics, parameters

HINTS = ["vague", "clear", "explicit"]


def row(name, hints=HINTS):
    return {"id": name, "prompt": conversation(f"question {name}"), "hints": hints}


HELPS = {"easy": "vague", "fair": "clear", "hard": "explicit", "lost": "nothing"}


class Engine(FakeEngine):
    """Two rollouts per group; the second is right once the prompt holds what helps the problem."""

    def __init__(self):
        super().__init__([], lambda own, prompt: [int(HELPS[own["id"]] in prompt[-1]["content"])])
        self.asked = []

    def generate(self, rows, prompts, *, logged=True):
        assert not logged, "lengths of these responses are not the policy's"
        shown = (prompt[-1]["content"].split("\n\n")[1] for prompt in prompts)
        self.asked.append([(own["id"], hint) for own, hint in zip(rows, shown, strict=True)])
        return super().generate(rows, prompts)

    def accuracy(self, rows, rollouts):
        return [float(n % 2 and ids == [1]) for n, ids in enumerate(rollouts.response_ids)]


@pytest.fixture
def engine():
    return Engine()


def rows_of(*names):
    return [row(name) for name in names for _ in range(2)]


def test_the_vaguest_hint_that_helps_is_chosen(engine):
    choices = HintChoices()
    rows = rows_of("easy", "fair", "hard", "lost", "easy")
    # Of the fair one only the second rollout is tutored.
    found = choose_hints(engine, choices, rows, [0, 1, 3, 4, 6, 9])
    assert found == {0: 1, 1: 1, 3: 2, 4: 3, 6: 3, 9: 1}
    asked = [sorted(set(call)) for call in engine.asked]
    first = [("easy", "vague"), ("fair", "vague"), ("hard", "vague"), ("lost", "vague")]
    # Those that were helped are not asked again, and the last hint is never tried.
    assert asked == [first, [("fair", "clear"), ("hard", "clear"), ("lost", "clear")]]
    assert all(len(call) == 2 * len(set(call)) for call in engine.asked), "G rollouts each, the twin asked once"
    assert engine.logged == {"hints/asked": 4.0, "hints/level": pytest.approx(11 / 6)}


def test_what_was_decided_is_not_asked_again(engine):
    choices = HintChoices()
    rows = rows_of("fair", "hard")
    first = choose_hints(engine, choices, rows, [0, 2])
    calls = len(engine.asked)
    assert choose_hints(engine, choices, rows, [0, 2]) == first == {0: 2, 2: 3}
    assert len(engine.asked) == calls
    assert engine.logged["hints/asked"] == 0
    other = [row("fair", ["vaguer", "clear", "explicit"])] * 2
    assert choose_hints(engine, choices, other, [0]) == {0: 2}
    assert len(engine.asked) > calls, "other hints are another choice"


def test_problems_without_a_choice_are_not_asked(engine):
    rows = [{**row("easy"), "hints": ["only"]}] * 2 + [{**row("fair"), "hints": [], "hint": "a text"}] * 2
    assert choose_hints(engine, HintChoices(), rows, [0, 2]) == {0: 1, 2: 1}
    assert engine.logged["hints/asked"] == 0
    assert choose_hints(engine, HintChoices(), rows, []) == {}
    assert engine.asked == []


def test_a_choice_is_remembered_by_problem_and_hints():
    class Image:
        def __init__(self, content):
            self.content = content

        def tobytes(self):
            return self.content

    plain = row("a")
    assert hints_key(plain) == hints_key(dict(plain))
    others = [row("b"), {**plain, "hints": HINTS[:2]}, {**plain, "prompt": conversation("else")}]
    nameless = [{**plain, "id": None, "images": [Image(content)]} for content in (b"1", b"2")]
    assert len({hints_key(one) for one in (plain, *others, *nameless)}) == 6


def test_levels_of_a_list():
    assert hint_levels(row("a")) == [conversation(f"question a\n\n{hint}") for hint in HINTS]
    shown = context_named("hints").text("question", {"hints": HINTS}, None)
    assert shown == "question\n\nexplicit", "what has not been chosen yet is the longest"


def test_one_text_is_a_list_of_it_and_what_is_no_text_is_refused():
    """A text read letter by letter would be as many hints."""
    assert hint_levels(row("a", "look left")) == [conversation("question a\n\nlook left")]
    assert hint_levels(row("a", [None, "look", "", "left"])) == hint_levels(row("a", ["look", "left"]))
    for odd, kind in ((["look", 5], "int"), ({"look": "left"}, "dict")):
        with pytest.raises(ValueError, match=f"row a: hints must be a list of texts, found {kind} in it"):
            hint_levels(row("a", odd))


@pytest.fixture
def rows(train_rows):
    listed = [["look", f"look closer {n}", "add up"] for n in range(len(train_rows))]
    return train_rows.remove_columns(["hints"]).add_column("hints", listed)


def test_a_run_remembers_and_records_its_choices(tmp_path, tiny_path, processor, rows):
    settings = {"tutoring_context": "hints", "shuffle_dataset": False, "save_strategy": "steps", "save_steps": 1}

    def trainer(name):
        made = dict(settings, reward=always_wrong, max_steps=2)
        return make_trainer(tmp_path / name, tiny_path, processor, rows, **made)

    whole = trainer("whole")
    whole.train()
    assert [line["hints/asked"] for line in metrics(whole)] == [2.0, 2.0]
    assert all(line["hints/level"] == 3.0 for line in metrics(whole))
    records = read_records(tmp_path / "whole")
    assert {rollout.hint_level for group in records.groups.values() for rollout in group.rollouts} == {3}
    again = trainer("again")
    torch.manual_seed(123)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert again.method.hint_choices.levels == whole.method.hint_choices.levels
    assert len(again.method.hint_choices.levels) == 4
    mine, reference = parameters(again), parameters(whole)
    assert all(torch.equal(mine[name], reference[name]) for name in reference)


def test_a_checkpoint_without_choices_is_refused(tmp_path):
    state = HintState(HintChoices({"a": 2}))
    state.save_beside(tmp_path)
    restored = HintState(HintChoices({"b": 1}))
    restored.restore(str(tmp_path))
    assert restored.choices.levels == {"a": 2}
    for damage in ("{", "[1]", '{"a": "x"}'):
        (tmp_path / HINTS_FILE).write_text(damage)
        with pytest.raises(ValueError, match="the hints that the run chose cannot be read"):
            restored.restore(str(tmp_path))


def test_where_it_cannot_work_it_is_refused(tmp_path):
    given = {"tutoring_context": "hints", "num_generations": 4, "tutoring_weight": 0.5}
    settings = settings_as_written(PTDConfig, given)
    settings.per_device_train_batch_size, settings.gradient_accumulation_steps = 2, 1
    with pytest.raises(ValueError, match="tutoring_context=hints: every process must hold whole groups"):
        layout_of(settings, 2)
    with pytest.raises(ValueError, match="what samples or scores again: set tutoring_context to hint"):
        refuse_foreign_rollouts(settings, {"tools": [len]})
