"""Analyses by sampling, on a tiny model whose gold is known by construction."""

import json
import math
from dataclasses import asdict
from typing import ClassVar

import pytest
import torch

from ptdpo.analysis.contexts import contexts
from ptdpo.analysis.gap import on_failed, with_and_without
from ptdpo.analysis.of_recipe import Draws, Sampler
from ptdpo.analysis.recovery import recovery
from ptdpo.analysis.sampling import SAMPLED, Drawn
from ptdpo.analysis.support import support
from ptdpo.tutor.head import Divergence

DRAWS = Draws(questions=2, samples=2, max_new_tokens=6)


@pytest.fixture
def sampler(tmp_path, model, processor, train_rows):
    return Sampler(model, processor, train_rows, DRAWS, tmp_path, {"model": "tiny"}, lambda _: None)


def test_a_second_call_draws_nothing_anew(tmp_path, sampler, model, processor, train_rows):
    first = sampler.draw(sampler.rows[0], "hint")
    told = []
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"id": "x", "cont')
    again = Sampler(model, processor, train_rows, DRAWS, tmp_path, {"model": "tiny"}, told.append)
    assert again.draw(again.rows[0], "hint") == first
    assert told == []
    drawn = again.draw(again.rows[1], "hint")
    third = Sampler(model, processor, train_rows, DRAWS, tmp_path, {"model": "tiny"}, told.append)
    assert third.draw(third.rows[1], "hint") == drawn, "a line after one that a kill cut is read"
    with pytest.raises(ValueError, match="samples=2, but now samples=3"):
        Sampler(model, processor, train_rows, Draws(2, 3, 6), tmp_path, {"model": "tiny"})


DAMAGED = [
    {"texts": None}, {"texts": ["a"]}, {"texts": ["a", None]}, {"tokens": 3}, {"tokens": ["a", "b"]}, {"right": [1, 0]},
    {"right": [True]}, {"right": "ab"},
]  # fmt: skip


def test_what_is_damaged_is_drawn_again_and_only_that(tmp_path, sampler, model, processor, train_rows):
    """Lines of another shape, cut ones and zeros that a crash left; a later version's keys are passed over."""
    first, second = (sampler.draw(row, "question") for row in sampler.rows)
    line = {**asdict(second), "of a later version": 1}
    file = tmp_path / "samples.jsonl"
    for damage in (*DAMAGED, {"id": None}, {"context": None}):
        file.write_text("".join(json.dumps(one) + "\n" for one in (line, {**asdict(first), **damage})))
        told = []
        again = Sampler(model, processor, train_rows, DRAWS, tmp_path, {"model": "tiny"}, told.append)
        assert [again.draw(row, "question") for row in again.rows] == [first, second]
        assert told == [f"question 1 of 2, question: {first.id}"]
    for text in ("[1]\n", "{" * 20_000 + "\n", "null\n", "\0" * 512 + "\n", '{"id": "x", "texts": ["\ud800"'):
        file.write_bytes(json.dumps(asdict(first)).encode() + b"\n" + text.encode("utf-8", "surrogatepass"))
        again = Sampler(model, processor, train_rows, DRAWS, tmp_path, {"model": "tiny"}, lambda _: None)
        assert again.draw(again.rows[0], "question") == first
        assert again.draw(again.rows[1], "question") == second


def test_odd_and_huge_responses_are_read_along(tmp_path, model, processor, train_rows):
    """What a model may have said: a megabyte, HTML, control characters, nothing."""
    texts = ["x" * 1_000_000, "</script><b>\x00\x1b[31m\u202e", "", "\x00"]
    draws = Draws(questions=1, samples=4, max_new_tokens=6)
    folder = tmp_path / "odd"
    made = Sampler(model, processor, train_rows, draws, folder, {}, lambda _: None)
    row = made.rows[0]
    lines = [Drawn(str(row["id"]), one, texts, [6] * 4, [False, False, False, one == "hint"]) for one in SAMPLED]
    (folder / "samples.jsonl").write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    read = Sampler(model, processor, train_rows, draws, folder, {}, pytest.fail)
    assert read.draw(row, "question").texts == texts
    assert with_and_without(read, "hint").gain.mean == 0.25
    assert len(on_failed(read, "hint", Divergence(k=5), rollouts=4)) <= 3 * 6
    assert contexts(read, rollouts=4).rows[0][1] <= 3 * 6
    assert support(read, rollouts=4).rows
    assert {row[0]: row[4] for row in recovery(read).rows}["hint"] == 1, "recovered in part"


def test_a_row_without_a_context_has_no_draw(sampler):
    assert sampler.draw({**sampler.rows[0], "solution": None}, "solution") is None


def test_distributions_are_those_of_a_plain_forward(sampler, model, processor):
    from ptdpo.data.prompts import attach_images
    from ptdpo.tutor.context import images_of

    row, ids = sampler.rows[0], [50, 90, 120]
    found = sampler.distributions(row, "question", ids)
    messages = attach_images(row["prompt"], images_of(row))
    inputs = processor.apply_chat_template(
        [messages], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(ids)))
    with torch.no_grad():
        expected = model(**inputs).logits[0, -1 - len(ids) : -1].log_softmax(-1)
    assert torch.allclose(found, expected, atol=2e-5)
    assert torch.allclose(found.exp().sum(1), torch.ones(3), atol=1e-4)


def test_contexts_compare_with_the_question_alone(sampler):
    rows = {row[0]: row[1:] for row in contexts(sampler, rollouts=1).rows}
    assert set(rows) == {"question", "answer", "hint"}, "these rows have no solution"
    assert rows["question"][1:3] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert rows["hint"][2] > 0
    assert rows["hint"][0] == rows["question"][0]


class OneHinted:
    """A sampler of two failed rollouts of one token each; only the first question has a hint."""

    rows: ClassVar = [{"id": "hinted"}, {"id": "bare"}]

    def draw(self, row, context):
        has = context == "question" or (context == "hint" and row["id"] == "hinted")
        return Drawn(row["id"], context, ["no"], [3 if context == "question" else 5], [False]) if has else None

    def ids(self, text):
        return [0]

    def distributions(self, row, context, ids):
        if self.draw(row, context) is None:
            return None
        chance = {("hinted", "question"): 0.5, ("hinted", "hint"): 0.25, ("bare", "question"): 0.01}[row["id"], context]
        return torch.tensor([[chance, 1 - chance]]).log()


def test_a_context_is_compared_where_it_is_there():
    rows = {row[0]: list(row[1:]) for row in contexts(OneHinted()).rows}
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert rows["question"] == pytest.approx([2, 0.0, 0.0, 3.0], abs=1e-6)
    assert rows["hint"] == pytest.approx([1, math.log(2), divergence, 5.0], abs=1e-6)


def test_support_loses_less_with_more(sampler):
    rows = [row for row in support(sampler, rollouts=1).rows if row[0] == "all"]
    lost = [row[-1] for row in rows]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > lost[-1] >= -1e-6


class Known:
    """A sampler whose draws are given."""

    samples = 4

    def __init__(self, right):
        self.rows, self.right = [{"id": one} for one in right], right

    def draw(self, row, context):
        found = self.right[row["id"]].get(context)
        return None if found is None else Drawn(row["id"], context, [""] * 4, [1] * 4, [n < found for n in range(4)])


def test_recovery_counts_on_questions_that_always_fail():
    known = Known({
        "never": {"question": 0, "hint": 2, "answer": 4}, "hard": {"question": 0, "hint": 0, "answer": 4},
        "easy": {"question": 1, "hint": 4, "answer": 4},
    })  # fmt: skip
    found = recovery(known)
    assert [list(row) for row in found.rows] == [
        ["question", 2, 0.0, 0.0, 0, 0, 0.25 / 3, 1 / 3],
        ["answer", 2, 1.0, 1.0, 0, 2, 1.0, 1.0],
        ["hint", 2, 0.25, 0.5, 1, 0, 0.5, 2 / 3],
    ]
    assert found.sentence == (
        "2 of 3 questions fail 4 times without a context; pass@4 under a context: answer 1.000 (pass@1 1.000; "
        "2 wholly), hint 0.500 (pass@1 0.250; 0 wholly)."
    )
    with pytest.raises(ValueError, match="answered at least once"):
        recovery(Known({"easy": {"question": 1}}))


def test_the_command_refuses_a_run_where_it_needs_a_recipe(tmp_path):
    from typer.testing import CliRunner

    from ptdpo.cli import app

    found = CliRunner().invoke(app, ["analyze", "recovery", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "give one recipe" in str(found.exception)
