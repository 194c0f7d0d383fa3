"""A small environment of several turns: a hidden board whose cells must be asked for; a hint says which.

What the policy says is scripted, so that it calls: the first turn asks for a cell, the second answers.
"""

import pytest
import torch

from ptdpo.data.rendering import render
from ptdpo.models import load_model
from ptdpo.runlog import read_records
from ptdpo.tutor.context import hinted_prompt
from tests.train.environment_runs import save_caller, trained_caller
from tests.train.helpers import metrics
from tests.train.test_tools import kept

ROWS = [
    {
        "prompt": [{"role": "user", "content": f"which colour is hidden? {n}"}],
        "hint": {"look": f"ask for cell {n}", "reason": "then answer with it"},
        "board": ["red", "blue", "green", "blue"],
        "secret": n,
    }
    for n in range(4)
]


class Board:
    """Hides colours; says how many cells there are, and tells the colour of each that is asked for."""

    def reset(self, board, secret, **_) -> str:
        self.board, self.secret, self.asked = board, secret, []
        return f" There are {len(board)} cells."

    def look(self, cell: int) -> str:
        """Tell the colour of a cell.

        Args:
            cell: its number, from 0.
        """
        self.asked.append(cell)
        return self.board[cell]

    def get_reward(self) -> float:
        """Return 1 if the right cell was asked for."""
        return float(self.secret in self.asked)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_caller(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, path):
    return trained_caller(path, tmp_path_factory.mktemp("run"), ROWS, Board)


def test_the_environment_s_reward_says_who_is_right(trainer):
    (logged,) = metrics(trainer)
    assert logged["tools/call_frequency"] == 1
    assert logged["tools/failure_frequency"] == 0
    assert logged["accuracy"] in (0.0, 0.5)
    assert logged["tutored/rollouts"] == 8 * (1 - logged["accuracy"])


def test_calls_and_answers_are_tutored_and_observations_are_not(trainer):
    for _, ids, own, record in kept(trainer):
        decode = trainer.processing_class.decode
        assert "</tool_call>" in decode(ids[own])
        assert "blue" in decode(ids[~own])
        assert "<tool_response>" in decode(ids[~own])
        assert "<tool_response>" not in decode(ids[own])
        assert len(record) == int(own.sum())


def test_the_teacher_reads_tools_hint_opening_and_observations_exactly(trainer, path):
    """Against the whole model on the prompt that a person would write down."""
    model, tokenizer = load_model(path).eval(), trainer.processing_class
    for prompt, ids, own, record in kept(trainer):
        (row,) = [row for row in ROWS if row["prompt"][0]["content"] in tokenizer.decode(prompt)]
        opened = [{"role": "user", "content": row["prompt"][0]["content"] + " There are 4 cells."}]
        shown = render(tokenizer, hinted_prompt({**row, "prompt": opened}), tools=trainer.tools)
        assert shown.index('"look"') < shown.index("There are 4 cells.") < shown.index(row["hint"]["look"])
        width = len(tokenizer(shown, add_special_tokens=False)["input_ids"])
        read = [*tokenizer(shown, add_special_tokens=False)["input_ids"], *ids.tolist()]
        with torch.no_grad():
            logits = model(torch.tensor([read])).logits[0, width - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, ids[:, None])[own]
        got = record.with_head(*trainer.teacher.head()).log_probs_at(ids[own][:, None])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_what_the_policy_said_is_recorded_token_by_token(trainer):
    records = read_records(trainer.args.output_dir)
    assert records.broken == 0
    assert records.tokens
    groups = {key: {one.rollout: one for one in group.rollouts} for key, group in records.groups.items()}
    for (step, group, place), line in records.tokens.items():
        own, rollout = trainer.processing_class.decode(line.ids), groups[step, group][place]
        assert own.startswith("<tool_call>")
        assert own.endswith("blue<|im_end|>")
        assert "<tool_response>" not in own
        assert "<tool_response>" in rollout.response
        assert rollout.tokens == len(line.ids) == len(line.log_probs) == len(line.student.ids)
        assert (line.divergence is not None) == rollout.tutored
        assert records.question_of(records.groups[step, group]).hint.startswith("Look: ask for cell")
