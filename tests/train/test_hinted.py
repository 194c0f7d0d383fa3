"""Hints in the student's own rollouts: which groups, which level, which rows, and the prompt under which they count."""

from types import SimpleNamespace

import pytest
import torch

from ptdpo.data.load import LoadedData
from ptdpo.data.prompts import conversation
from ptdpo.records import Problem
from ptdpo.train import PTDConfig
from ptdpo.train.layout import layout_of
from ptdpo.train.method import Method
from ptdpo.train.method_settings import HintedSettings, MethodSettings
from ptdpo.train.plan import check_contexts
from ptdpo.train.settings import settings_as_written
from ptdpo.train.trl.batches import trust_responses
from ptdpo.train.trl.rollouts import TrlRollouts
from ptdpo.tutor.context import hint_levels
from tests.train.fake_engine import FakeEngine, Table
from tests.train.helpers import make_trainer

RIGHT, WRONG = 1, 0
GROUP = 3


class Sampled(Table):
    """Rollouts that say which prompts they keep."""

    kept = None

    def with_rows(self, replaced, *, keep_prompts=False):
        merged = Sampled(super().with_rows(replaced).response_ids)
        merged.kept = keep_prompts
        return merged


def row(name, hint):
    return {"id": name, "prompt": conversation(f"question {name}"), "hint": hint}


ROWS = {
    "look": row("look", {"look": "the top row", "reason": "add"}),
    "all": row("all", {"look": "the top row", "reason": "add"}),
    "text": row("text", "look up"),
    "mixed": row("mixed", "look up"),
    "bare": row("bare", None),
    "hard": row("hard", "look up"),
}


class Engine(FakeEngine):
    generations = GROUP

    def __init__(self, step=0):
        super().__init__([])
        self.step, self.asked = step, []

    def generate(self, rows, prompts, *, logged=True):
        self.asked.append(([own["id"] for own in rows], [prompt[-1]["content"] for prompt in prompts], logged))
        asked = zip(rows, prompts, strict=True)
        return Sampled([self.answer(n, own["id"], prompt) for n, (own, prompt) in enumerate(asked)])

    @staticmethod
    def answer(number, name, prompt):
        text = prompt[-1]["content"]
        helped = {"look": "Look:", "all": "Reason:", "text": "look up"}.get(name, "nothing helps")
        # The first with a hint is wrong all the same.
        right = number % GROUP > 0 and (helped in text or name == "mixed")
        return [RIGHT if right else WRONG, number]

    def accuracy(self, rows, rollouts):
        return [float(ids[0] == RIGHT) for ids in rollouts.response_ids]


def chosen(engine, names, **settings):
    method = Method(engine, MethodSettings(hinted=HintedSettings(**{"count": 1, **settings})))
    return method.before_grading([ROWS[name] for name in names for _ in range(GROUP)])


def test_one_right_response_with_the_vaguest_hint_that_helps_takes_the_place_of_a_failed_one():
    engine = Engine()
    got = chosen(engine, ROWS)
    right = [ids[0] for ids in got.rollouts.response_ids]
    assert [right[n : n + GROUP] for n in range(0, len(right), GROUP)] == [
        [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    assert got.foreign == {0, 3, 6}
    assert got.rollouts.kept is True
    assert [own["prompt"] for own in got.rows] == [ROWS[name]["prompt"] for name in ROWS for _ in range(GROUP)]
    own, first, second = engine.asked
    assert own[2] is True
    assert first[2] is False, "lengths that are logged are those of the policy's task"
    assert first[0] == ["look"] * 3 + ["all"] * 3 + ["text"] * 3 + ["hard"] * 3, "bare has no hint, mixed no need"
    assert all("Reason" not in text for text in first[1])
    assert second[0] == ["all"] * 3, "the next level is for those whom the first did not help"
    assert engine.logged["hinted/groups"] == 0.5
    assert engine.logged["hinted/level"] == pytest.approx((1 + 2 + 1) / 3)


def test_several_may_be_replaced_and_scored_with_their_hint():
    got = chosen(Engine(), ["all", "mixed"], count=2, scored="hint")
    assert [ids[0] for ids in got.rollouts.response_ids] == [1, 1, 0, 0, 1, 1]
    assert got.rollouts.kept is False
    assert got.foreign == frozenset()
    asked = [own["prompt"][-1]["content"] for own in got.rows]
    assert asked[0] == asked[1] == "question all\n\nHint. Look: the top row\nReason: add"
    assert asked[2:] == ["question all"] + ["question mixed"] * 3
    assert ROWS["all"]["prompt"] == conversation("question all"), "the data stay"


def test_the_first_steps_are_made_without():
    engine = Engine(step=4)
    assert chosen(engine, ["text"], after=5).rollouts is None
    assert engine.asked == []
    engine.step = 5
    assert chosen(engine, ["text"], after=5).foreign == {0}


def test_a_process_without_failed_groups_samples_with_the_others():
    """Sampling is a collective call."""

    class Two(type(Engine().processes)):
        def most(self, value):
            return max(value, 2)

    engine = Engine()
    engine.processes = Two()
    got = chosen(engine, ["mixed"])
    assert [len(names) for names, *_ in engine.asked] == [3, 6, 6]
    assert got.foreign == frozenset()
    assert [ids[0] for ids in got.rollouts.response_ids] == [0, 1, 1]


def test_levels_go_from_where_to_look_to_all_of_the_hint():
    vague, whole = hint_levels({**ROWS["look"], "prompt": conversation("how many?\n\nThink."), "instruction": "Think."})
    assert vague == conversation("how many?\n\nHint. Look: the top row\n\nThink.")
    assert whole == conversation("how many?\n\nHint. Look: the top row\nReason: add\n\nThink.")
    assert hint_levels(ROWS["text"]) == [conversation("question text\n\nlook up")]
    ready = {"prompt": conversation("how many?"), "prompt_with_hint": "how many? Look up."}
    assert hint_levels(ready) == [conversation("how many? Look up.")]
    assert hint_levels(ROWS["bare"]) == []


def test_responses_under_another_prompt_keep_their_own():
    own = TrlRollouts([[1], [2]], [[3], [4]], None, ["a", "b"], [[0.1], [0.2]], {}, [["x"], ["y"]], [])
    other = TrlRollouts([[9, 9]], [[5]], None, ["c"], [[0.3]], {}, [["x"]], [])
    kept = own.with_rows({1: (other, 0)}, keep_prompts=True)
    assert (kept.prompt_ids, kept.response_ids, kept.images) == ([[1], [2]], [[3], [5]], [["x"], ["y"]])
    assert (kept.completions, kept.log_probs) == (["a", "c"], [[0.1], [0.3]])
    assert own.with_rows({1: (other, 0)}).prompt_ids == [[1], [9, 9]]


def test_what_the_sampler_thought_under_another_prompt_corrects_nothing():
    columns = {"importance_sampling_ratio": torch.full((3, 2), 0.5)}
    trust_responses(columns, {2, 0})
    assert columns["importance_sampling_ratio"].tolist() == [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]
    trust_responses({}, {1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hinted_rollouts": 8, "num_generations": 8}, "hinted_rollouts=8: must be below num_generations=8"),
        ({"hinted_rollouts": 1, "hinted_scored": "hint", "tutoring_weight": 0.5}, "a teacher would read hints twice"),
        ({"hinted_rollouts": -1}, "hinted_rollouts=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        PTDConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)


def test_groups_stay_on_one_process():
    settings = settings_as_written(PTDConfig, {"hinted_rollouts": 1, "num_generations": 4})
    settings.per_device_train_batch_size, settings.gradient_accumulation_steps = 2, 1
    with pytest.raises(ValueError, match="hinted_rollouts=1: every process must hold whole groups"):
        layout_of(settings, 2)


def test_data_without_hints_are_refused(tmp_path, tiny_path, processor, train_rows):
    rows = train_rows.remove_columns(["hint", "prompt_with_hint", "hints"])
    with pytest.raises(ValueError, match="hinted_rollouts=1: train_dataset has no column 'hints' or 'hint' or"):
        make_trainer(tmp_path, tiny_path, processor, rows, preset="scaf-grpo")


def test_a_plan_without_any_hint_is_refused():
    settings = SimpleNamespace(hints_rollouts=True, hinted_rollouts=1, tutors=False)
    data = LoadedData([Problem("1", (), "how many?", "3")], {}, {}, "")
    with pytest.raises(ValueError, match=r"hinted_rollouts=1, but no problem has hints: use data with a hints column"):
        check_contexts(settings, data)
