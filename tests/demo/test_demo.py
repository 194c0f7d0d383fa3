"""The demo end to end, at a size that proves the plumbing and nothing about learning."""

import itertools
import json
from dataclasses import replace

import pytest

from ptdpo.config import read_recipe
from ptdpo.data.files import read_hints
from ptdpo.data.images import open_image
from ptdpo.data.mosaic import hidden_rules
from ptdpo.data.scan import read_problems
from ptdpo.demo.run import run_demo
from ptdpo.demo.setting import (
    Arm,
    DemoSettings,
    WarmStart,
    habit_rows,
    hinted_problems,
    make_data,
    practice_rows,
    skill_rows,
)
from ptdpo.demo.training import practised
from ptdpo.demo.world import make_world
from ptdpo.evaluate.compare import compare
from ptdpo.rewards import grade
from tests.test_config import ROOT

MINI = DemoSettings(
    warm_start=WarmStart(
        naming_rows=16, adding_rows=16, score_rows=16, practice_rounds=1, practice_rows=16, habit_rows=16, batch_size=16
    ),
    arms={"grpo": Arm("grpo", 1e-3), "ptd-grpo": Arm("ptd-grpo", 1e-3, tutoring_weight=2.0)},
    train_problems=8,
    validation_problems=4,
    test_problems=4,
    steps=2,
    prompts_per_step=2,
    rollouts=2,
    max_new_tokens=6,
)


def test_the_demo_writes_its_result_and_its_page_and_can_be_interrupted(tmp_path):
    result = run_demo(tmp_path / "demo", 0, MINI)
    assert result == json.loads((tmp_path / "demo" / "result.json").read_text())
    for name in MINI.arms:
        assert {"test_accuracy", "all_fail", "entropy", "kl"} <= result[name].keys()
        assert result[name]["steps"] == 2
    assert {"data", "warm_start", "grpo", "ptd-grpo", "evaluate", "total"} == result["seconds"].keys()
    html = (tmp_path / "demo" / "index.html").read_text()
    assert html.count("<svg") >= 6
    (paired,) = compare(*(tmp_path / "demo" / "answers" / name for name in MINI.arms)).differences
    assert paired.questions == 4
    assert paired.gain.mean == result["ptd-grpo"]["test_accuracy"] - result["grpo"]["test_accuracy"]
    assert "Where tutoring pulled hardest" in html

    trained = (tmp_path / "demo" / "grpo" / "model.safetensors").stat().st_mtime_ns
    again = run_demo(tmp_path / "demo", 0, MINI)
    assert (tmp_path / "demo" / "grpo" / "model.safetensors").stat().st_mtime_ns == trained
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in result.items() if k != "seconds"}
    with pytest.raises(ValueError, match=r"settings\.json: made with .*, but now .*choose another --out"):
        run_demo(tmp_path / "demo", 1, MINI)


def test_a_world_is_made_once_and_holds_what_the_recipes_name(tmp_path):
    folder = tmp_path / "worlds" / "3"
    start = make_world(folder, 3, MINI, expert_rows=16)
    recipe = read_recipe(ROOT / "demo" / "ptd_grpo.yaml", ["seed=3"])
    named = [recipe.model, recipe.data.path, recipe.data.hints, recipe.evaluate.validation, recipe.evaluate.test]
    for path in [
        *named,
        "runs/worlds/3/data/solutions.jsonl",
        "runs/worlds/3/data/plain_hints.jsonl",
        "runs/worlds/3/data/train_views.jsonl",
        "runs/worlds/3/expert",
    ]:
        assert (tmp_path / path.removeprefix("runs/")).exists()
    hints, plain = (read_hints(folder / "data" / f"{name}.jsonl") for name in ("hints", "plain_hints"))
    assert all(plain[key].reason == hint.reason and plain[key].look != hint.look for key, hint in hints.items())
    for problem in read_problems(folder / "data" / "train_views.jsonl"):
        seen, other = (open_image(path[0]).getbbox() for path in (problem.teacher_images, problem.contrast_images))
        assert seen != other
        assert {tuple(sorted((right - left, low - top))) for left, top, right, low in (seen, other)} == {(16, 48)}
    times = [path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")]
    assert make_world(folder, 3, MINI, expert_rows=16) == start
    assert times == [path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")]
    with pytest.raises(ValueError, match=r"settings\.json: made with .*, but now"):
        make_world(folder, 4, MINI, expert_rows=16)


def test_the_warm_start_teaches_form_and_hints_but_not_every_rule(tmp_path):
    warm_start = WarmStart(naming_rows=10, adding_rows=10, score_rows=200, habit_rows=400)
    warm = DemoSettings(warm_start=warm_start, arms={})
    skills, habits = skill_rows(tmp_path, 0, warm), habit_rows(tmp_path, 0, warm)
    assert (len(skills), len(habits)) == (220, 400)
    for _, _, response in skills + habits:
        verdict = grade(response, response.rsplit("{", 1)[1].rstrip("}"))
        assert verdict.accuracy == verdict.format == 1.0
    assert 0.5 < sum("Hint." in text for _, text, _ in skills[20:]) / 200 < 0.8
    rules = hidden_rules(0)
    known = {}
    for name, rule in rules.items():
        stated = f"<think>{name}: {rule.region}, begin {rule.beginning}."
        asked = [response for _, text, response in habits if name in text and "Hint." not in text]
        known[name] = [response.startswith(stated) for response in asked]
    shares = [sum(rows) / len(rows) for rows in known.values()]
    assert shares[0] > 0.3
    assert shares[-1] < 0.25


def test_no_prompt_of_the_policy_holds_a_hint(tmp_path):
    data = make_data(tmp_path, 0, 0, replace(MINI, train_problems=16))
    for scene in data.train + data.test:
        assert scene.hint.look not in scene.problem.problem
        assert scene.problem.prompt_with_hint is None
    assert {s.problem.images for s in data.train}.isdisjoint({s.problem.images for s in data.test})


@pytest.mark.parametrize(
    ("accuracies", "rounds"), [((0.95,), 0), ((0.3, 0.9), 1), ((0.3, 0.5), 2)], ids=["at once", "once", "all rounds"]
)
def test_practice_goes_on_until_hints_are_followed(tmp_path, monkeypatch, accuracies, rounds):
    measured, taught = iter(accuracies), []
    monkeypatch.setattr("ptdpo.demo.training.hint_accuracy", lambda *_: next(measured))
    monkeypatch.setattr("ptdpo.demo.training.fine_tune", lambda model, rows, out, *_: taught.append((model, out)))
    two_rounds = replace(MINI, warm_start=replace(MINI.warm_start, practice_rounds=2))
    last = practised(tmp_path, tmp_path / "skilled", 0, two_rounds)
    folders = [tmp_path / "skilled", tmp_path / "practised-0", tmp_path / "practised-1"]
    assert taught == list(itertools.pairwise(folders[: rounds + 1]))
    assert last == folders[rounds]


def test_practice_rows_carry_hints_and_every_round_has_its_own_scenes(tmp_path):
    settings = replace(MINI, warm_start=WarmStart(practice_rows=200))
    first, second = (practice_rows(tmp_path, 0, number, settings) for number in (0, 1))
    assert 0.7 < sum("Look:" in text for _, text, _ in first) / 200 < 0.9
    assert not {images for images, *_ in first} & {images for images, *_ in second}


def test_the_probe_asks_with_the_hint_of_the_true_rule(tmp_path):
    problems = hinted_problems(tmp_path, 0, MINI)
    assert len(problems) == 4
    for problem, rule in zip(problems, hidden_rules(0).values(), strict=True):
        assert f"Look: {rule.region}" in problem.problem
        assert f"begin {rule.beginning}," in problem.problem
