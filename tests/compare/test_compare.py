"""A comparison chooses on validation, tests once, resumes, and says what it found."""

import json
import math
from pathlib import Path

import pytest
import yaml

from ptdpo.compare.plan import make_compare_plan, setting_name
from ptdpo.compare.run import ComparisonResult, TestedRun, run_comparison
from ptdpo.compare.tables import comparison_tables, write_tables
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.evaluate.compare import compare
from ptdpo.evaluate.scoring import Scores
from ptdpo.folders import write_json
from ptdpo.records import Problem
from ptdpo.train.provenance import provenance_of
from tests.evaluate.fixtures import EchoEngine

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

    def write(name, preset, grid=None, lora=None, **train):
        content = {
            "preset": preset,
            "model": tiny_path,
            "data": {"path": str(tmp_path / "train.jsonl"), "instruction": "", "max_prompt_tokens": 256},
            "train": {"output_dir": str(tmp_path / "{seed}"), **(TRAIN if preset != "sft" else SFT_TRAIN), **train},
            "evaluate": {"validation": str(tmp_path / "validation.jsonl"), "test": str(tmp_path / "held_out.jsonl"),
                         "max_new_tokens": 6},
            "grid": grid or {},
            "lora": lora or {},
        }  # fmt: skip
        if preset.startswith("ptd"):
            content["data"]["hints"] = str(tmp_path / "hints.jsonl")
        if preset == "sft":
            content["data"]["solutions"] = str(tmp_path / "solutions.jsonl")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def scores(accuracy):
    return Scores(accuracy, {"x": accuracy}, {"q": accuracy}, "fingerprint")


SFT_TRAIN = {key: value for key, value in TRAIN.items() if key not in ("num_generations", "max_completion_length")}


def test_it_chooses_on_validation_tests_once_and_resumes(tmp_path, recipe_file):
    paths = [
        recipe_file("grpo", "grpo", max_steps=1),
        recipe_file("tutored", "ptd-grpo", grid={"tutoring_weight": [0.5, 2.0]}, max_steps=1),
        recipe_file("sft", "sft", lora={"rank": 2}, max_steps=1),
    ]
    plan = make_compare_plan(paths, (0, 1), (7,), {"learning_rate": [1e-4]})
    result = run_comparison(tmp_path / "out", plan)
    assert list(result.tuning["tutored"]) == [
        "learning_rate0.0001-tutoring_weight0.5",
        "learning_rate0.0001-tutoring_weight2",
    ]
    assert result.tuning["grpo"] == {}
    validated = {path.parts[-4] for path in (tmp_path / "out").glob("seed-*/*/answers/validation")}
    assert validated == {"seed-7"}, "validation is read on tuning seeds only"
    assert {path.parts[-4] for path in (tmp_path / "out").glob("seed-*/*/answers/test")} == {"seed-0", "seed-1"}
    homes = [tmp_path / "out" / "seed-0" / name for name in ("grpo-learning_rate0.0001", "sft-learning_rate0.0001")]
    (paired,) = compare(*(home / "answers" for home in homes)).differences
    assert paired.gain.mean == pytest.approx(result.runs["sft"][0].accuracy - result.runs["grpo"][0].accuracy)
    assert compare(tmp_path / "out" / "seed-0" / "start", homes[0] / "answers").differences[0].questions == 4
    assert len(list((tmp_path / "out").glob("seed-*/*/finished.json"))) == 2 + 6
    assert (tmp_path / "out" / "accuracy.svg").read_text().startswith("<svg")
    write_tables(tmp_path / "out", result)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["runs"].keys() == {"grpo", "tutored", "sft"}
    assert "| tutored - grpo |" in (tmp_path / "out" / "comparison.md").read_text()
    assert not list(homes[1].glob("model*")), "an adapter, answered with its base"
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    again = run_comparison(tmp_path / "out", plan)
    assert [again.start, again.tuning] == [result.start, result.tuning]
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}, "trained twice"


@pytest.fixture
def untrained(monkeypatch):
    """Training and answering leave only what they were asked for; a model is right as often as its folder says."""
    trained = []

    def train(recipe):
        trained.append(recipe)
        home = Path(recipe.train["output_dir"])
        for name in ("started.json", "finished.json"):
            write_json(home / name, provenance_of(recipe))
        rows = [{"step": n, "groups/all_fail": n / 100, "entropy": n / 10, "kl": n, "elapsed": n} for n in range(30)]
        (home / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr("ptdpo.compare.run.train_recipe", train)
    monkeypatch.setattr("ptdpo.evaluate.scoring.LocalEngine", KnowingEngine)
    return trained


# How many of the four questions of a file a model answers right, by the name of its folder.
RIGHT = {"grpo-as-is": 1, "a-tutoring_weight0.5": 1, "a-tutoring_weight2": 3, "a-tutoring_weight4": 2}


class KnowingEngine(EchoEngine):
    """Answers as many questions right as its folder's name says, and none for a start model."""

    def __init__(self, model):
        right = RIGHT.get(Path(model).name, 0)
        super().__init__(
            lambda problem, _: f"\\boxed{{{problem.answer if int(problem.id.rpartition('-')[2]) % 4 < right else -1}}}"
        )


@pytest.mark.parametrize("weights", [[0.5, 2.0, 4.0], [2.0, 4.0, 0.5], [4.0, 0.5, 2.0]])
def test_the_best_setting_is_chosen_and_the_trained_model_is_tested(recipe_file, tmp_path, untrained, weights):
    paths = [recipe_file("grpo", "grpo"), recipe_file("a", "ptd-grpo", grid={"tutoring_weight": weights})]
    result = run_comparison(tmp_path / "out", make_compare_plan(paths, (0, 1), (7,)))
    assert result.chosen == {"grpo": (), "a": (("tutoring_weight", 2.0),)}
    assert result.tuning["a"] == {"tutoring_weight0.5": [0.25], "tutoring_weight2": [0.75], "tutoring_weight4": [0.5]}
    assert result.start == {0: 0.0, 1: 0.0}
    assert {name: [run.accuracy for run in runs] for name, runs in result.runs.items()} == {
        "grpo": [0.25, 0.25],
        "a": [0.75, 0.75],
    }
    run = result.runs["grpo"][0]
    assert (run.all_fail, run.entropy, run.kl) == pytest.approx((0.195, 1.95, 19.5)), "the last 20 of 30 steps"


def test_a_mistake_in_a_later_recipe_is_found_before_anything_is_trained(recipe_file, tmp_path, untrained):
    good = recipe_file("good", "grpo")
    bad = [recipe_file("typo", "grpo", lerning_rate=1), recipe_file("groups", "grpo", num_generations=3)]
    bad.append(recipe_file("seeds", "ptd-grpo"))
    bad[-1].write_text(bad[-1].read_text().replace("train.jsonl", "{seed}.jsonl"))
    (tmp_path / "train.jsonl").rename(tmp_path / "0.jsonl")
    (tmp_path / "train.jsonl").write_bytes((tmp_path / "0.jsonl").read_bytes())
    for path, message in zip(
        bad, ("did you mean 'learning_rate'", "whole groups of 3", "1.jsonl: no such"), strict=True
    ):
        with pytest.raises(ValueError, match=f"{path.name}: .*{message}"):
            run_comparison(tmp_path / "out", make_compare_plan([good, path], (0, 1)))
    (tmp_path / "held_out.jsonl").unlink()
    with pytest.raises(ValueError, match=r"held_out\.jsonl"):
        run_comparison(tmp_path / "out", make_compare_plan([good], (0, 1)))
    assert not untrained
    assert not list(tmp_path.rglob("started.json"))


def test_what_could_not_be_answered_after_training_is_refused_before(recipe_file, tmp_path, untrained):
    (tmp_path / "empty").mkdir()
    changes = {
        r"model='.*empty': a folder without a model's configuration": ("model", str(tmp_path / "empty")),
        r"processes=2: a comparison trains and answers in one process": ("processes", 2),
        r"evaluate.samples=2: at temperature=0 it would be the same response": (
            "evaluate",
            {"samples": 2, "temperature": 0.0},
        ),
    }
    path = recipe_file("a", "grpo")
    content = yaml.safe_load(path.read_text())
    for message, (key, value) in changes.items():
        value = {**content[key], **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump({**content, key: value}))
        with pytest.raises(ValueError, match=message):
            run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    path.write_text(yaml.safe_dump(content))
    write_problems(tmp_path / "held_out.jsonl", [Problem("1", (), "q?", " ")])
    with pytest.raises(ValueError, match=r"held_out.jsonl.*empty answer.*mend them or take them out"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    assert not untrained


def test_nothing_is_written_for_a_recipe_that_training_refuses(recipe_file, tmp_path, monkeypatch):
    """What only the trainer finds leaves no folder that refuses the recipe once it is right."""
    monkeypatch.setattr("ptdpo.compare.run.make_plan", lambda _: None)
    monkeypatch.setattr("ptdpo.compare.run.score_file", lambda *_: scores(0.5))
    with pytest.raises(ValueError, match="whole groups of 3"):
        run_comparison(
            tmp_path / "out", make_compare_plan([recipe_file("a", "grpo")], (0, 1), overrides=["num_generations=3"])
        )
    assert not list(tmp_path.rglob("started.json"))


def test_recipes_that_are_tested_otherwise_are_not_paired(recipe_file, tmp_path):
    paths = [recipe_file("a", "grpo"), recipe_file("b", "grpo")]
    content = yaml.safe_load(paths[1].read_text())
    changes = {
        "model": {"model": "other"},
        "data.instruction": {"data": {**content["data"], "instruction": "Think."}},
        "evaluate.test": {"evaluate": {**content["evaluate"], "test": "other.jsonl"}},
        "evaluate.temperature": {"evaluate": {**content["evaluate"], "temperature": 0.5}},
    }
    for key, change in changes.items():
        paths[1].write_text(yaml.safe_dump({**content, **change}))
        with pytest.raises(ValueError, match=f"b.yaml: {key}=.* but a has {key}=.* the same questions"):
            make_compare_plan(paths, (0, 1))
    paths[1].write_text(yaml.safe_dump(content).replace("held_out", "{seed}"))
    (tmp_path / "a.yaml").write_text(paths[0].read_text().replace("held_out", "0"))
    with pytest.raises(ValueError, match=r"evaluate.test=.*1.jsonl"):
        make_compare_plan(paths, (0, 1))
    with pytest.raises(ValueError, match=r"evaluate.top_p=0.5, but a has evaluate.top_p=0.9"):
        make_compare_plan(paths[:1], (0, 1), (2,), {"evaluate.top_p": [0.9, 0.5]})


@pytest.mark.parametrize("override", ["seed=4", "train.seed=4", "output_dir=x"])
def test_what_a_comparison_sets_itself_is_not_overridden(recipe_file, override):
    path = recipe_file("a", "grpo")
    with pytest.raises(ValueError, match=f"--set {override}: .* use --"):
        make_compare_plan([path], (0, 1), overrides=[override])
    key, _, value = override.partition("=")
    with pytest.raises(ValueError, match=rf"a.yaml: grid\.{key}: .* use --"):
        make_compare_plan([path], (0, 1), (2,), {key: [value, "y"]})


def test_a_finished_run_counts_for_its_own_settings_only(recipe_file, tmp_path, untrained):
    path = recipe_file("grpo", "grpo")
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    assert len(untrained) == 2
    with pytest.raises(ValueError, match=r"made with train.max_steps=2, but now train.max_steps=9"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1), overrides=["max_steps=9"]))
    text = path.read_text()
    path.write_text(text.replace("max_new_tokens: 6", "max_new_tokens: 7"))
    with pytest.raises(ValueError, match=r"start: made with sampling.max_new_tokens=6"):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))
    path.write_text(text.replace("held_out", "train"))
    with pytest.raises(ValueError, match=r"start: made with benchmarks.test.fingerprint="):
        run_comparison(tmp_path / "out", make_compare_plan([path], (0, 1)))


def test_an_interrupted_run_does_not_go_on_with_other_settings(recipe_file, tmp_path, untrained, monkeypatch):
    def interrupted(recipe):
        write_json(Path(recipe.train["output_dir"]) / "started.json", provenance_of(recipe))
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


def test_tables_report_spread_paired_differences_and_what_is_missing(recipe_file, tmp_path):
    plan = make_compare_plan([recipe_file("a", "grpo"), recipe_file("b", "sft")], (0, 1, 2))

    def run(seed, accuracy, entropy):
        return TestedRun(seed, scores(accuracy), 0.5, entropy, math.nan, 1.0)

    runs = {"a": [run(s, 0.1 * s, 0.3) for s in range(3)], "b": [run(s, 0.1 * s + 0.2, math.nan) for s in range(3)]}
    tables = list(
        comparison_tables(
            ComparisonResult(plan, {"a": {}, "b": {}}, {"a": (), "b": ()}, dict.fromkeys(range(3), 0.1), runs)
        )
    )
    means, differences, per_seed = tables
    write_tables(tmp_path, ComparisonResult(plan, {"a": {}, "b": {}}, {"a": (), "b": ()}, {0: math.nan}, runs))
    kept = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert (kept["runs"]["b"][0]["entropy"], kept["runs"]["a"][0]["entropy"], kept["start"]["0"]) == (None, 0.3, None)
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
