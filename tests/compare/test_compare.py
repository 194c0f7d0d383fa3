"""A comparison chooses on validation, tests once, resumes, and says what it found."""

import json
import math
from pathlib import Path

import pytest
import yaml

from ptdpo.compare.plan import make_compare_plan, setting_name
from ptdpo.compare.run import Comparison, TestedRun, run_comparison
from ptdpo.compare.tables import comparison_tables, write_tables
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.train.made_with import made_with, write_json

TRAIN = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 6,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "disable_tqdm": True,
}


@pytest.fixture
def recipe_file(tmp_path, scenes, tiny_path):
    write_problems(tmp_path / "train.jsonl", [s.problem for s in scenes[:8]])
    write_problems(tmp_path / "validation.jsonl", [s.problem for s in scenes[4:8]])
    write_problems(tmp_path / "held_out.jsonl", [s.problem for s in scenes[8:12]])
    write_hints(tmp_path / "hints.jsonl", {s.problem.id: s.hint for s in scenes}, model="rule")
    write_solutions(tmp_path / "solutions.jsonl", [s.solution for s in scenes[:8]])

    def write(name, preset, grid=None, **train):
        content = {
            "preset": preset,
            "model": tiny_path,
            "data": {"path": str(tmp_path / "train.jsonl"), "instruction": "", "max_prompt_tokens": 256},
            "train": {"output_dir": str(tmp_path / "{seed}"), **(TRAIN if preset != "sft" else SFT_TRAIN), **train},
            "evaluate": {"validation": str(tmp_path / "validation.jsonl"), "test": str(tmp_path / "held_out.jsonl"),
                         "max_new_tokens": 6},
            "grid": grid or {},
        }  # fmt: skip
        if preset.startswith("ptd"):
            content["data"]["hints"] = str(tmp_path / "hints.jsonl")
        if preset == "sft":
            content["data"]["solutions"] = str(tmp_path / "solutions.jsonl")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


SFT_TRAIN = {key: value for key, value in TRAIN.items() if key not in ("num_generations", "max_completion_length")}


@pytest.mark.slow
def test_it_chooses_on_validation_tests_once_and_resumes(tmp_path, recipe_file):
    paths = [
        recipe_file("grpo", "grpo"),
        recipe_file("tutored", "ptd-grpo", grid={"tutoring_weight": [0.5, 2.0]}),
        recipe_file("sft", "sft"),
    ]
    plan = make_compare_plan(paths, (0, 1), (7,), {"learning_rate": [1e-4]})
    result = run_comparison(tmp_path / "out", plan)
    assert list(result.tuning["tutored"]) == [
        "learning_rate0.0001-tutoring_weight0.5",
        "learning_rate0.0001-tutoring_weight2",
    ]
    assert result.tuning["grpo"] == {}
    assert dict(result.chosen["tutored"])["tutoring_weight"] in (0.5, 2.0)
    validated = {path.parts[-3] for path in (tmp_path / "out").glob("seed-*/*/validation.json")}
    assert validated == {"seed-7"}, "validation is read on tuning seeds only"
    assert {path.parts[-3] for path in (tmp_path / "out").glob("seed-*/*/test.json")} == {"seed-0", "seed-1"}
    assert len(list((tmp_path / "out").glob("seed-*/*/finished.json"))) == 2 + 6
    assert (tmp_path / "out" / "accuracy.svg").read_text().startswith("<svg")
    write_tables(tmp_path / "out", result)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["runs"].keys() == {"grpo", "tutored", "sft"}
    assert "| tutored - grpo |" in (tmp_path / "out" / "comparison.md").read_text()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    again = run_comparison(tmp_path / "out", plan)
    assert [again.start, again.tuning] == [result.start, result.tuning]
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}, "trained twice"


@pytest.fixture
def untrained(monkeypatch):
    """Training and answering leave only what they were asked for."""
    trained = []

    def train(recipe):
        trained.append(recipe)
        home = Path(recipe.train["output_dir"])
        for name in ("started.json", "finished.json"):
            write_json(home / name, made_with(recipe))
        (home / "metrics.jsonl").write_text("")

    monkeypatch.setattr("ptdpo.compare.run.train_recipe", train)
    for name in ("load_model", "load_processor"):
        monkeypatch.setattr(f"ptdpo.compare.run.{name}", lambda path: path)
    monkeypatch.setattr("ptdpo.compare.run.score_problems", lambda *_: [])
    monkeypatch.setattr("ptdpo.compare.run.mean_accuracy", lambda _: 0.5)
    return trained


def test_a_finished_run_counts_for_its_own_settings_only(recipe_file, tmp_path, untrained):
    path = recipe_file("grpo", "grpo")
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    assert len(untrained) == 2
    with pytest.raises(ValueError, match=r"made with train.max_steps=2, but now train.max_steps=9"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1), overrides=["max_steps=9"]))
    text = path.read_text()
    path.write_text(text.replace("max_new_tokens: 6", "max_new_tokens: 7"))
    with pytest.raises(ValueError, match=r"start.json: made with sampling.max_new_tokens=6"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    path.write_text(text.replace("held_out", "train"))
    with pytest.raises(ValueError, match=r"start.json: made with problems="):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))


def test_an_interrupted_run_does_not_go_on_with_other_settings(recipe_file, tmp_path, untrained, monkeypatch):
    def interrupted(recipe):
        write_json(Path(recipe.train["output_dir"]) / "started.json", made_with(recipe))
        raise KeyboardInterrupt

    path = recipe_file("grpo", "grpo")
    plan = make_compare_plan([path], (0, 1))
    with monkeypatch.context() as patch:
        patch.setattr("ptdpo.compare.run.train_recipe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_comparison(tmp_path / "out", plan)
    assert not list((tmp_path / "out").rglob("finished.json"))
    with pytest.raises(ValueError, match=r"made with train.learning_rate=1e-06, but now train.learning_rate=0.1 is"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1), overrides=["learning_rate=0.1"]))
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    assert len(untrained) == 2


def test_the_place_of_the_folder_does_not_count(recipe_file, tmp_path, untrained):
    path = recipe_file("grpo", "grpo")
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    (tmp_path / "out").rename(tmp_path / "moved")
    run_comparison(tmp_path / "moved", make_compare_plan([path], (0, 1)))
    assert len(untrained) == 2


def test_every_seed_has_its_own_recipe(recipe_file, tmp_path):
    path = recipe_file("grpo", "grpo", resume_note="")
    text = path.read_text().replace("resume_note: ''", "run_name: run-{seed}")
    path.write_text(text)
    plan = make_compare_plan([path], (3, 4), overrides=["max_steps=9"])
    recipe = plan.recipe(plan.arms[0], 4, (("learning_rate", 1e-3),), tmp_path / "home")
    assert recipe.train["run_name"] == "run-4"
    assert (recipe.train["seed"], recipe.train["max_steps"], recipe.train["learning_rate"]) == (4, 9, 1e-3)
    assert recipe.train["output_dir"] == str(tmp_path / "home")


def test_plans_that_make_no_sense(recipe_file):
    one = recipe_file("one", "grpo")
    with pytest.raises(ValueError, match="at least two different seeds"):
        make_compare_plan([one], (0,))
    with pytest.raises(ValueError, match=r"seeds \[1\] are both tuned and tested on"):
        make_compare_plan([one], (0, 1), (1,))
    with pytest.raises(ValueError, match="different names"):
        make_compare_plan([one, one], (0, 1))
    with pytest.raises(ValueError, match="no tuning seed"):
        make_compare_plan([one], (0, 1), (), {"learning_rate": [1e-4, 1e-3]})
    content = yaml.safe_load(one.read_text())
    one.write_text(yaml.safe_dump({**content, "evaluate": {"validation": "x.jsonl", "test": "./x.jsonl"}}))
    with pytest.raises(ValueError, match="settings would be chosen on what recipes are compared on"):
        make_compare_plan([one], (0, 1), (2,), {"learning_rate": [1e-4, 1e-3]})
    del content["evaluate"]["validation"]
    one.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="no validation file"):
        make_compare_plan([one], (0, 1), (2,), {"learning_rate": [1e-4, 1e-3]})
    del content["evaluate"]
    one.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="no test file"):
        make_compare_plan([one], (0, 1))
    one.write_text(yaml.safe_dump({**content, "grid": {"learning_rate": 1e-4}}))
    with pytest.raises(ValueError, match=r"grid\.learning_rate: expected a list"):
        make_compare_plan([one], (0, 1))


def test_tables_report_spread_paired_differences_and_what_is_missing(recipe_file):
    plan = make_compare_plan([recipe_file("a", "grpo"), recipe_file("b", "sft")], (0, 1, 2))

    def run(seed, accuracy, entropy):
        return TestedRun(seed, accuracy, {"x": accuracy}, 0.5, entropy, math.nan, 1.0)

    runs = {"a": [run(s, 0.1 * s, 0.3) for s in range(3)], "b": [run(s, 0.1 * s + 0.2, math.nan) for s in range(3)]}
    tables = list(
        comparison_tables(Comparison(plan, {"a": {}, "b": {}}, {"a": (), "b": ()}, dict.fromkeys(range(3), 0.1), runs))
    )
    means, differences, per_seed = tables
    assert means.rows[0][2] == "0.100 ± 0.000"
    assert means.rows[1][:3] == ("a", "as-is", "0.100 ± 0.100")
    assert means.rows[2][4] == "-", "what a method does not log is not a number"
    assert differences.rows[0][:2] == ("b - a", "+0.200 [+0.200, +0.200]")
    assert differences.rows[0][3] == "-"
    assert per_seed.rows[2] == ("2", "0.100", "0.200", "0.400")


def test_settings_have_readable_names():
    assert setting_name(()) == "as-is"
    assert setting_name((("learning_rate", 5e-5), ("data.limit", 3))) == "learning_rate5e-05-limit3"
    assert setting_name((("learning_rate", 0.00012345678),)) == "learning_rate0.00012345678"
    assert setting_name((("tutoring_select", "all"),)) == "tutoring_selectall"
