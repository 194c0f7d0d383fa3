"""Models of text are tutored, evaluated and shared like those that see, whatever their family."""

import datasets
import pytest

from ptdpo.models import load_model
from tests import tiny_families
from tests.train.helpers import SGD, Alternating, largest_difference, make_trainer, metrics, parameters
from tests.tutor.test_rendered import template_named

ROWS = [
    {
        "prompt": [{"role": "user", "content": f"what is in the top row? {n}"}],
        "answer": "7",
        "hint": {"look": "at the first", "reason": f"red is {n}"},
    }
    for n in range(4)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_families.save_text_model(tmp_path_factory.mktemp("qwen3"), "qwen3", template_named("qwen3"))


@pytest.fixture
def run(tmp_path, path):
    def start(name="run", model=path, rows=ROWS, **settings):
        settings = {"reward": Alternating(3), "max_steps": 2, **SGD, **settings}
        trainer = make_trainer(tmp_path / name, model, None, datasets.Dataset.from_list(rows), **settings)
        trainer.train()
        return trainer

    return start


def test_tutoring_alone_moves_a_model_of_text(run, path):
    trainer = run(rl_weight=0.0, beta=0.0)
    start = dict(load_model(path).named_parameters())
    assert largest_difference(parameters(trainer), start) > 1e-4
    assert metrics(trainer)[0]["divergence"] > 0
    assert trainer.shares_prefix


def test_two_hints_give_two_divergences(run):
    other = [{**row, "hint": {"look": "at the last column", "reason": "blue is 2"}} for row in ROWS]
    first, again, second = (
        metrics(run(name, rows=rows, max_steps=1))[0]["divergence"]
        for name, rows in (("one", ROWS), ("again", ROWS), ("two", other))
    )
    assert first == again
    assert abs(first - second) > 1e-5


def test_sharing_prompts_changes_nothing(run):
    plain, shared = (run(f"{share}", share_prefix=share, max_steps=1) for share in (False, True))
    assert shared.shares_prefix
    assert not plain.shares_prefix
    assert largest_difference(parameters(plain), parameters(shared)) < 2e-5


def test_a_prompt_that_the_template_loses_is_refused_at_the_start(run):
    parts = [{**row, "prompt": [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]} for row in ROWS]
    with pytest.raises(ValueError, match=r"row 0: the policy would not read 'what\?': the chat template renders"):
        run(rows=parts)


def test_plain_text_prompts_are_tutored(run):
    rows = [{**row, "prompt": row["prompt"][0]["content"]} for row in ROWS]
    assert metrics(run(rows=rows, max_steps=1))[0]["divergence"] > 0


def test_images_are_refused_for_a_model_of_text(run, scenes):
    rows = [{**row, "images": [scenes[0].problem.images[0]]} for row in ROWS]
    with pytest.raises(ValueError, match="comes with 1 images, but the model reads text only"):
        run(rows=rows)


def test_experts_keep_their_load_balancing_loss(run, tmp_path):
    """Logged, and added to the loss with its coefficient, as TRL does without tutoring."""
    model = tiny_families.save_text_model(tmp_path / "moe", "qwen3_moe", output_router_logits=True)
    settings = {"model": model, "max_steps": 1, "gradient_accumulation_steps": 1, "share_prefix": True}
    tutored, alone = (
        metrics(run(name, preset=name, router_aux_loss_coef=0.5, **settings))[0] for name in ("ptd-grpo", "grpo")
    )
    without = metrics(run("without", preset="ptd-grpo", router_aux_loss_coef=0.0, **settings))[0]
    assert tutored["aux_loss"] == pytest.approx(alone["aux_loss"], rel=1e-5)
    assert tutored["loss"] - without["loss"] == pytest.approx(0.5 * tutored["aux_loss"], rel=1e-4)
