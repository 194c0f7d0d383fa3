"""A study end to end, at a size that proves the plumbing and nothing about learning."""

import json
import shutil

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.data.files import read_hints
from ptdpo.data.mosaic import NAMES
from ptdpo.data.two_step import hidden_rules
from ptdpo.folders import write_json
from ptdpo.study.gains import SHOWN_TO_TEACHERS
from ptdpo.study.jobs import SCORES, chosen, final_folder, gains_folder, jobs_of
from ptdpo.study.plan import read_study
from ptdpo.study.results import _seconds, read_study_results
from ptdpo.study.run import run_study
from ptdpo.study.tables import study_tables, write_study_tables
from ptdpo.study.world import make_world, world_made
from tests.test_config import ROOT


def test_a_study_runs_resumes_and_never_repeats(tmp_path, write_study):
    study = read_study(write_study(), tmp_path / "out")
    said = []
    run_study(study, said.append)
    names = [line.split(" ")[0] for line in said]
    assert names[:7] == [
        "reader",
        "world-7",
        "world-8",
        "gains-7",
        "gains-8",
        "grpo-learning_rate0.0001-7",
        "grpo-learning_rate0.0003-7",
    ]
    assert names.index("ptd-whole-1") < names.index("shuffled-tutoring_weight0.5-7"), "round after round"
    assert len(names) == 7 + 3 * 2 * 2 + 2 + 3 * 2 == len(set(names))

    result = read_study_results(study)
    assert {name: sorted(runs) for name, runs in result.runs.items()} == {
        "grpo": [0, 1],
        "ptd-whole": [0, 1],
        "shuffled": [0, 1],
    }
    assert [(one.arm, one.other, one.worlds) for one in result.comparisons] == [
        ("ptd-whole", "grpo", 2),
        ("shuffled", "grpo", 2),
        ("ptd-whole", "shuffled", 2),
    ]
    assert [one.planned for one in result.comparisons] == [1, 2, 2]
    home = final_folder(study, "grpo", 0)
    scores = json.loads((home / SCORES).read_text())
    assert set(scores["by_question"]) == {f"test-0-{n}" for n in range(4)}, "the test split, whole"
    assert not list((tmp_path / "out").glob("seed-7/*/answers/test")), "validation worlds are never tested"
    assert not list((tmp_path / "out").glob("seed-[01]/*/answers/validation"))

    run = result.runs["grpo"][0]
    assert 0 < run.generated < run.sampled, "prompts count there, and every rollout is trained on"

    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again: list[str] = []
    run_study(study, again.append)
    assert again == []
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}

    world = tmp_path / "worlds" / "0"
    graded = [json.loads(line) for line in (world / "data" / "train-graded.jsonl").read_text().splitlines()]
    assert [len(row["hints"]) for row in graded] == [3] * 8
    assert weights(world / "expert") != weights(world / "start"), "it has learnt more"

    for changed, message in (
        ({"shared": {"train": {"max_steps": 2}}}, "train.max_steps"),
        ({"shared": {"evaluate": {"max_new_tokens": 7}}}, "evaluate.max_new_tokens"),
        ({"gains": {"samples": 2}}, "gains.samples"),
        ({"arms": {"ptd-whole": {"train": {"tutoring_k": 4}}}}, "train.tutoring_k"),
    ):
        other = read_study(changed_file(write_study(), changed), tmp_path / "out")
        with pytest.raises(ValueError, match=message):
            run_study(other, again.append)
        with pytest.raises(ValueError, match=message):
            read_study_results(other)
    study = read_study(write_study(), tmp_path / "out")

    # As worlds of earlier versions: what is there stays, what is lacking is made.
    shutil.rmtree(world / "expert")
    assert not world_made(world)
    made = (world / "start" / "model.safetensors").stat().st_mtime_ns
    make_world(world, 0, tmp_path / "worlds" / "reader", study.settings.worlds.settings)
    assert world_made(world)
    assert (world / "start" / "model.safetensors").stat().st_mtime_ns == made

    write_study_tables(tmp_path / "out", result)
    text = (tmp_path / "out" / "study.md").read_text()
    assert "| shuffled - grpo | 2 |" in text
    assert "shuffled" in (tmp_path / "out" / "study.svg").read_text()
    assert "Fewer than 5 worlds" in text
    assert len(list(study_tables(result))) == 6
    assert json.loads((tmp_path / "out" / "study.json").read_text())["runs"]["grpo"].keys() == {"0", "1"}

    hints = read_hints(tmp_path / "worlds" / "0" / "data" / "hints-shuffled.jsonl")
    own = {f"train-0-{n}": hidden_rules(0, NAMES)[NAMES[n % 4]] for n in range(8)}
    assert set(hints) == set(own)
    assert all(rule.line not in hints[key].look for key, rule in own.items()), "every shuffled hint is wrong"


def changed_file(path, changed):
    """Change a study's file, section by section."""

    def merged(old, new):
        return {
            **old,
            **{
                key: merged(old.get(key, {}), value) if isinstance(value, dict) else value for key, value in new.items()
            },
        }

    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changed), sort_keys=False))
    return path


def test_an_arm_that_cannot_be_trained_is_refused_before_the_first(tmp_path, write_study):
    sft = {"preset": "sft", "candidates": [{"learning_rate": 1e-4}, {"learning_rate": 3e-4}]}
    with pytest.raises(ValueError, match="arm sft: unknown setting of supervised fine-tuning 'num_generations'"):
        read_study(changed_file(write_study(), {"arms": {"sft": sft}}), tmp_path / "out")
    without = ["num_generations", "max_completion_length", "record_steps"]
    read_study(changed_file(write_study(), {"arms": {"sft": {**sft, "without": without}}}), tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / "recipes" / "sft.yaml")
    assert not set(without) & set(recipe.train)
    assert recipe.train["max_steps"] == 1


def test_seconds_are_those_of_all_steps_of_a_run_that_went_on():
    assert _seconds([{"step_time": 2.0, "elapsed": 3.0}, {"step_time": 2.5, "elapsed": 2.6}]) == 4.5
    assert _seconds([{"elapsed": 3.0}]) == 3.0, "fine-tuning logs no time of a step"


def weights(model):
    return (model / "model.safetensors").read_bytes()


def test_every_arm_is_a_recipe_of_its_own(tmp_path, write_study):
    study = read_study(write_study(), tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / "recipes" / "ptd-whole.yaml", ["train.seed=3"])
    assert recipe.preset == "ptd-grpo"
    assert recipe.data.hints.endswith("/3/data/hints-whole.jsonl")
    assert (recipe.train["tutoring_k"], recipe.train["max_steps"]) == (8, 1)
    assert study.in_order() == ["grpo", "ptd-whole", "shuffled"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"candidates": 3}, "arm shuffled has 2 candidates, but every arm chooses among 3"),
        ({"baseline": "dapo"}, "'dapo' is no arm"),
        ({"contrasts": [["grpo", "sdpo"]]}, "'sdpo' is no arm"),
        ({"worlds": {"folder": "w", "test": [0, 7], "validation": [7]}}, r"worlds \[7\] are both validated and tested"),
        ({"arm": {}}, "arm"),
    ],
)
def test_a_study_that_cannot_be_fair_is_refused(tmp_path, write_study, changed, message):
    with pytest.raises(ValueError, match=message):
        read_study(write_study(**changed), tmp_path / "out")


def scored(home, accuracy):
    said = {"by_source": {}, "by_question": {"q": accuracy}, "fingerprint": ""}
    write_json(home / SCORES, {"accuracy": accuracy, **said})


def test_a_candidate_is_chosen_when_all_are_validated_everywhere(tmp_path, write_study):
    path = write_study(worlds={"folder": "w", "test": [0, 1], "validation": [7, 8]})
    study = read_study(path, tmp_path / "out")
    found = {7: (0.1, 0.3), 8: (0.8, 0.5)}
    for world, accuracies in found.items():
        assert chosen(study, "ptd-whole") is None
        for weight, accuracy in zip(("0.5", "2"), accuracies, strict=True):
            scored(tmp_path / "out" / f"seed-{world}" / f"ptd-whole-tutoring_weight{weight}", accuracy)
    assert chosen(study, "ptd-whole") == (("tutoring_weight", 0.5),), "by the mean, 0.45 against 0.4"
    assert final_folder(study, "ptd-whole", 1) == tmp_path / "out" / "seed-1" / "ptd-whole-tutoring_weight0.5"


def test_an_unfinished_study_has_tables_of_what_is_finished(tmp_path, write_study):
    study = read_study(write_study(), tmp_path / "out")
    result = read_study_results(study)
    assert [table.title.split(",")[0] for table in study_tables(result)] == ["Test accuracy", "Test accuracy per world"]
    arms = next(iter(study_tables(result)))
    assert [row[0] for row in arms.rows] == ["start"]
    assert "Not begun: grpo, ptd-whole, shuffled." in arms.note
    scored(tmp_path / "out" / "seed-7" / "ptd-whole-tutoring_weight0.5", 0.5)
    arms = next(iter(study_tables(read_study_results(study))))
    assert [row[:3] for row in arms.rows] == [("start", "", "0"), ("ptd-whole", "not chosen yet", "0")]
    assert "Not begun: grpo, shuffled." in arms.note


def test_the_study_that_docs_name_can_be_planned(tmp_path):
    study = read_study(ROOT / "study" / "puzzles.yaml", tmp_path / "out")
    assert len(study.settings.worlds.test) == 10
    assert len(study.settings.worlds.validation) == 3
    assert len(jobs_of(study)) > 100
    assert len(SHOWN_TO_TEACHERS) == 8


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("tuned", {"grpo-learning_rate5e-05-beta0-100", "ptd-whole-9"}),
        ("second", {"gains-102", "ptd-whole-4"}),
        ("divergence", {"opsd-v1-hint-100"}),
    ],
)
def test_its_followers_can_be_planned_and_share_its_budget(tmp_path, name, jobs):
    first, study = (read_study(ROOT / "study" / f"{one}.yaml", tmp_path / one) for one in ("puzzles", name))
    assert {job.name for job in jobs_of(study)} >= {"reader", *jobs}
    folder = first.settings.worlds.folder
    moved = json.dumps(first.settings.shared).replace(folder, study.settings.worlds.folder)
    assert study.settings.shared == json.loads(moved)


def test_what_the_tuned_study_shares_with_the_first_is_the_same_run(tmp_path):
    first, tuned = (read_study(ROOT / "study" / f"{name}.yaml", tmp_path / name) for name in ("puzzles", "tuned"))
    assert first.settings.worlds == tuned.settings.worlds
    for name, plan in tuned.plans.items():
        candidates, more = first.plans[name].arms[0].candidates, plan.arms[0].candidates
        assert set(candidates) < set(more)
        written = [(tmp_path / study / "recipes" / f"{name}.yaml").read_text() for study in ("puzzles", "tuned")]
        assert written[0] == written[1]


def test_gains_are_over_worlds_and_recovery_over_questions_that_always_fail(tmp_path, write_study):
    study = read_study(write_study(), tmp_path / "out")
    plain = {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.0}
    for world, values in ((7, (1.0, 0.5, 0.5, 0.0)), (8, (0.5, 1.0, 0.0, 0.0))):
        gain = {key: value - plain[key] for key, value in zip(plain, values, strict=True)}
        one = {"shown": "whole", "accuracy": 0.5, "gain": gain, "divergence": world / 10, "kl": 1.0}
        write_json(gains_folder(study, world) / "gains.json", {"question": 0.125, "by_question": plain, "gains": [one]})
    (found,) = read_study_results(study).gains
    assert (found.shown, found.worlds, found.without) == ("whole", 2, 0.125)
    assert found.gain.mean == pytest.approx((1.0 + 0.0 + 0.5 + 0.5 + 0.5) / 8)
    assert (found.partly, found.wholly) == (2 / 6, 1 / 6)
    assert found.divergence == pytest.approx(0.75)
