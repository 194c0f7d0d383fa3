"""Several environments in one run: each rollout's teacher reads the tools of its own environment, and no others."""

import pytest
import torch

from ptdpo.data.rendering import render
from ptdpo.models import load_model
from ptdpo.train.trl.setup import check_prompts
from ptdpo.tutor.context import hinted_prompt
from tests.train.environment_runs import save_caller, trained_caller
from tests.train.helpers import metrics
from tests.train.test_environment import Board
from tests.train.test_tools import kept

COLOURS = ["red", "blue"]
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"which colour is hidden? {n}"}],
        "hint": {"look": f"ask for number {n}", "reason": "then answer with it"},
        "environment": "boards" if n % 2 else "bags",
        "board": COLOURS,
        "secret": n // 2,
    }
    for n in range(4)
]


class Bag:
    """Hides colours as a board does, behind a tool of another name."""

    def reset(self, board, **_) -> str:
        self.colours = board
        return " There is a bag."

    def draw(self, place: int) -> str:
        """Draw a colour.

        Args:
            place: which, from 0.
        """
        return self.colours[place]

    def get_reward(self) -> float:
        """Return that nothing was right."""
        return 0.0


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_caller(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, path):
    return trained_caller(path, tmp_path_factory.mktemp("run"), ROWS, {"boards": Board, "bags": Bag})


def test_rollouts_of_all_environments_are_tutored(trainer):
    (logged,) = metrics(trainer)
    assert logged["tools/call_frequency"] == 1
    assert logged["tools/failure_frequency"] == 0
    assert logged["tutored/rollouts"] >= 4


def test_each_teacher_reads_the_tools_of_its_own_environment_exactly(trainer, path):
    """Against the whole model on the prompt that a person would write down."""
    model, tokenizer = load_model(path).eval(), trainer.processing_class
    environments = set()
    for prompt, ids, own, record in kept(trainer):
        (row,) = [row for row in ROWS if row["prompt"][0]["content"] in tokenizer.decode(prompt)]
        name, said, other = row["environment"], " There is a bag.", '"look"'
        if name == "boards":
            said, other = " There are 2 cells.", '"draw"'
        opened = [{"role": "user", "content": row["prompt"][0]["content"] + said}]
        shown = render(tokenizer, hinted_prompt({**row, "prompt": opened}), tools=trainer._env_tools[name])
        assert other not in shown
        read = tokenizer(shown, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[*read, *ids.tolist()]])).logits[0, len(read) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, ids[:, None])[own]
        got = record.with_head(*trainer.teacher.head()).log_probs_at(ids[own][:, None])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        environments.add(name)
    assert "bags" in environments


def test_the_check_at_the_start_reads_each_environment_s_tools(trainer):
    """A template that writes one environment's tools in the place of the question loses that one's alone."""
    template = "{% if tools and tools[0].function.name == 'draw' %}tools{% else %}{{ messages[0].content }}{% endif %}"
    check_prompts(trainer, trainer.args)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "chat_template", template)
        with pytest.raises(ValueError, match="row 0: the policy would not read 'which colour is hidden"):
            check_prompts(trainer, trainer.args)
        patched.setattr(trainer, "train_dataset", trainer.train_dataset.select([1, 3]))
        check_prompts(trainer, trainer.args)


def test_who_is_right_is_said_by_each_rollout_s_own_environment(trainer):
    right = trainer.engine.right
    names = [trainer.reward_func_names[column] for column in (right.column, *right.others)]
    assert sorted(names) == ["Bag", "Board"]
    nan = float("nan")
    rewards = torch.tensor([[nan, 1.0], [0.0, nan]])
    assert right.among(rewards).tolist() == [1.0, 0.0]
