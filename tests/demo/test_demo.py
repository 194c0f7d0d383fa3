"""The demo end to end, at a size that proves the plumbing and nothing about learning."""

import json
from dataclasses import replace

import pytest

from ptdpo.data.mosaic import hidden_rules
from ptdpo.demo.run import run_demo
from ptdpo.demo.setting import Arm, DemoSettings, WarmStart, habit_rows, make_data, skill_rows
from ptdpo.demo.study import StudyArm, StudyPlan, read_plan, run_study, study_tables
from ptdpo.rewards import grade
from tests.test_config import RECIPES

MINI = DemoSettings(
    warm_start=WarmStart(naming_rows=16, adding_rows=16, score_rows=16, habit_rows=16, batch_size=16),
    arms={"grpo": Arm("grpo", 1e-3), "ptd-grpo": Arm("ptd-grpo", 1e-3, tutoring_weight=2.0)},
    train_problems=8,
    validation_problems=4,
    test_problems=4,
    steps=2,
    prompts_per_step=2,
    rollouts=2,
    max_new_tokens=6,
)


@pytest.mark.slow
def test_the_demo_writes_its_result_and_its_page_and_can_be_interrupted(tmp_path):
    result = run_demo(tmp_path / "demo", 0, MINI)
    assert result == json.loads((tmp_path / "demo" / "result.json").read_text())
    for name in MINI.arms:
        assert {"test_accuracy", "all_fail", "entropy", "kl"} <= result[name].keys()
        assert result[name]["steps"] == 2
    assert {"data", "warm_start", "grpo", "ptd-grpo", "evaluate", "total"} == result["seconds"].keys()
    html = (tmp_path / "demo" / "index.html").read_text()
    assert html.count("<svg") >= 6
    assert "Where tutoring pulled hardest" in html

    trained = (tmp_path / "demo" / "grpo" / "model.safetensors").stat().st_mtime_ns
    again = run_demo(tmp_path / "demo", 0, MINI)
    assert (tmp_path / "demo" / "grpo" / "model.safetensors").stat().st_mtime_ns == trained
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in result.items() if k != "seconds"}
    with pytest.raises(ValueError, match="another seed or other settings"):
        run_demo(tmp_path / "demo", 1, MINI)


@pytest.mark.slow
def test_a_study_tunes_on_validation_tests_once_and_resumes(tmp_path):
    plan = StudyPlan(
        worlds=(3,),
        tuning_seeds=(9,),
        seeds=(0, 1),
        learning_rates=(1e-4,),
        arms={"grpo": StudyArm("grpo"), "ptd-grpo": StudyArm("ptd-grpo", (1.0, 2.0))},
    )
    result = run_study(tmp_path, plan, MINI)
    assert list(result["tuning"]["ptd-grpo"]) == ["lr0.0001-lambda1", "lr0.0001-lambda2"]
    tuned = sorted(p.relative_to(tmp_path).parts[0] for p in tmp_path.glob("seed-*/*/validation.json"))
    assert set(tuned) == {"seed-9"}, "validation is read on tuning seeds only"
    assert {p.relative_to(tmp_path).parts[0] for p in tmp_path.glob("seed-*/*/test.json")} == {"seed-0", "seed-1"}
    tables = {title: rows for title, _, rows in study_tables(result)}
    assert [row[0] for row in tables["Test accuracy per seed"]] == ["0", "1"]
    assert tables["Paired difference with its 95 % interval (t)"][0][0] == "ptd-grpo - grpo"
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert run_study(tmp_path, plan, MINI) == result
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}, "nothing is trained twice"


def test_the_warm_start_teaches_form_and_hints_but_not_every_rule(tmp_path):
    warm = WarmStart(naming_rows=10, adding_rows=10, score_rows=200, habit_rows=400)
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


def test_the_study_of_the_docs_can_be_read():
    plan = read_plan(RECIPES[0].parent / "demo_study.yaml")
    assert len(plan.seeds) >= 5
    assert not set(plan.seeds) & set(plan.tuning_seeds)
    assert [arm.learning_rate for arm in plan.candidates("grpo")] == list(plan.learning_rates)


@pytest.mark.parametrize("text", ["seeds: [1]\n", "arms: {}\nseeds: [1]\n", "arms: {a: {preset: grpo}}\nx: [1]\n"])
def test_study_plans_that_make_no_sense(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"plan\.yaml"):
        read_plan(path)
    with pytest.raises(ValueError, match="no such study plan"):
        read_plan(tmp_path / "absent.yaml")
