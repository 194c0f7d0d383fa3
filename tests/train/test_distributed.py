"""Two gloo processes give the step of one process, wherever the failures are."""

import json

import pytest
from safetensors.torch import load_file

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.mosaic import with_views
from ptdpo.runlog import read_records
from tests.processes import gloo_processes as on_two_processes
from tests.train.helpers import largest_difference, make_trainer, parameters

WORKER = "tests.train.distributed_worker"
# Which of the eight rollouts of a step are right; four to a process.
PATTERNS = {
    "spread": [1, 0, 0, 1, 0, 1, 1, 0],
    "all-on-first": [0, 0, 1, 0, 1, 1, 1, 1],
    "all-on-second": [1, 1, 1, 1, 0, 0, 0, 0],
    "none": [1] * 8,
    "everywhere": [0] * 8,
    # One process then has one part, the other two.
    "spread-in-parts": [1, 0, 0, 1, 0, 1, 1, 0],
    # Two forwards before a backward.
    "papo": [1, 0, 0, 1, 0, 1, 1, 0],
    "papo_dapo-in-parts": [1, 0, 0, 1, 0, 1, 1, 0],
    # Only the second process has a group to draw anew, or both have.
    "hdpo-on-second": [0, 0, 1, 0, 0, 0, 0, 0],
    "hdpo-everywhere": [0] * 8,
    # Only the second process has something to contrast, or a group that answers with a hint.
    "rlcsd-on-second": [0, 0, 0, 0, 1, 0, 1, 0],
    "scaf-on-second": [0, 0, 1, 0, 0, 0, 0, 0],
    # Only one process has something to learn, or neither has; the token mean of the whole step stays.
    "idle-on-first": [0, 0, 1, 0, 1, 1, 1, 1],
    "idle_grpo-on-second": [1, 1, 1, 1, 0, 0, 1, 0],
    "idle_dapo-on-second": [1, 1, 1, 1, 0, 0, 1, 0],
    "idle_dapo-in-parts": [1, 1, 1, 1, 0, 0, 1, 0],
    "idle-none": [1] * 8,
    # Only the second process has images for the teacher.
    "seen-everywhere": [0] * 8,
    # Only the second process has hints to choose.
    "hints-on-second": [1, 1, 1, 1, 0, 0, 0, 0],
    "v_zero-everywhere": [0] * 8,
}
# Only the second process has a group to exchange; which prompts are drawn depends on the process.
RESAMPLED = {"dapo": [0, 0, 1, 0, 1, 1, 1, 1]}
TUTORED = {"papo": 0, "papo_dapo-in-parts": 0, "hdpo-on-second": 2, "hdpo-everywhere": 4}
TUTORED |= {"idle_grpo-on-second": 0}
TUTORED |= {"rlcsd-on-second": 4, "scaf-on-second": 0, "seen-everywhere": 4, "v_zero-everywhere": 4}


@pytest.fixture(scope="module")
def rows(tmp_path_factory, scenes):
    """As ``train_rows``; only the second process has problems with images for the teacher."""
    hints = {s.problem.id: s.hint for s in scenes}
    folder = tmp_path_factory.mktemp("views")
    problems = [s.problem if n == 0 else with_views(s, folder) for n, s in enumerate(scenes)]
    return rl_dataset(problems, hints, instruction="")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, tiny_path, rows):
    """Parameters and metrics after one optimiser step on two processes, per pattern."""
    folder = tmp_path_factory.mktemp("ddp")
    rows.with_format(None).save_to_disk(str(folder / "rows"))
    job = {"model": tiny_path, "rows": str(folder / "rows"), "out": str(folder), "patterns": PATTERNS | RESAMPLED}
    (folder / "job.json").write_text(json.dumps(job))
    on_two_processes(WORKER, folder / "job.json", said=folder / "said.txt")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_two_processes_equal_one(two_processes, tmp_path, tiny_path, processor, rows, name):
    from tests.train.distributed_worker import fixed_rollouts, settings_of

    result = json.loads((two_processes / f"{name}.json").read_text())
    tutored = TUTORED.get(name, PATTERNS[name].count(0))
    assert result.get("tutored/rollouts", 0) == tutored, "the count is that of both processes"
    settings = {**settings_of(name), "per_device_train_batch_size": 8}
    trainer = make_trainer(tmp_path, tiny_path, processor, rows, **settings)
    fixed_rollouts(trainer, PATTERNS[name])
    start = parameters(trainer)
    trainer.train()
    theirs = load_file(two_processes / f"{name}.safetensors")
    assert trainer.method.step.tutored_tokens == result["tokens"]
    assert largest_difference(parameters(trainer), theirs) < 2e-6
    if not name.endswith("none"):
        assert largest_difference(start, theirs) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in PATTERNS if not name.startswith("idle")))
def test_records_of_two_processes_are_those_of_one(two_processes, tmp_path, tiny_path, processor, rows, name):
    from tests.train.distributed_worker import fixed_rollouts, settings_of

    settings = {**settings_of(name), "per_device_train_batch_size": 8}
    trainer = make_trainer(tmp_path, tiny_path, processor, rows, **settings)
    fixed_rollouts(trainer, PATTERNS[name])
    trainer.train()
    ours, theirs = read_records(tmp_path), read_records(two_processes / name)
    assert len(list(theirs.folder.glob("groups-*.jsonl"))) == 2
    assert theirs.broken == 0
    assert theirs.groups == ours.groups
    assert [q.hint for q in theirs.questions.values()] == [q.hint for q in ours.questions.values()]
    assert theirs.tokens.keys() == ours.tokens.keys()
    assert len(ours.tokens) == 8
    for key, line in ours.tokens.items():
        other = theirs.tokens[key]
        assert other.ids == line.ids
        for one, two in ((line.log_probs, other.log_probs), (line.divergence, other.divergence)):
            assert (one is None) == (two is None)
            assert one is None or two == pytest.approx(one, abs=1e-4)
        assert (line.teacher is None) == (other.teacher is None)


@pytest.mark.slow
def test_processes_resample_together(two_processes):
    """A process that needs no other group draws as many as the one that needs most."""
    result = json.loads((two_processes / "dapo.json").read_text())
    assert result["groups/resampled"] == 0.5
    assert result["groups/uninformative_left"] == 0
