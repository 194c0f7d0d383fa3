"""Usefulness of hints for a model in this process."""

import json

import pytest

from ptdpo.chat.requests import Sampling
from ptdpo.cli import main
from ptdpo.data.files import write_hints, write_problems
from ptdpo.evaluate import usefulness
from ptdpo.evaluate.usefulness import measure_usefulness_here
from ptdpo.hints.usefulness import UsefulnessSettings
from ptdpo.records import Hint
from tests.evaluate.fixtures import EchoEngine
from tests.models.test_adapters import make_adapter

TWICE = UsefulnessSettings(2, Sampling(max_tokens=4), "Think.")


@pytest.fixture
def files(tmp_path, scenes):
    """Three problems, the first two with a hint."""
    write_problems(tmp_path / "p.jsonl", [scene.problem for scene in scenes[:3]])
    write_hints(tmp_path / "h.jsonl", {scene.problem.id: scene.hint for scene in scenes[:2]}, "m")
    return tmp_path


def measure(files, settings=TWICE, model="m"):
    paths = (files / "p.jsonl", files / "h.jsonl", files / "useful.jsonl")
    return measure_usefulness_here(model, *paths, settings, batch_size=2)


def test_the_model_reads_the_hint_in_one_half_of_the_draws(files, scenes, monkeypatch):
    """The first problem is solved with its hint only, the second in every other draw, whatever is read."""
    asked = []

    def answer(problem, sample):
        asked.append(problem.problem)
        solved = "Hint. Look:" in problem.problem if problem.id == scenes[0].problem.id else sample == 0
        return f"\\boxed{{{problem.answer if solved else -1}}}"

    monkeypatch.setattr(usefulness, "LocalEngine", lambda _: EchoEngine(answer))
    result = measure(files)
    rows = [json.loads(line) for line in (files / "useful.jsonl").read_text().splitlines()]
    assert [(row["right_without"], row["right_with"], row["flag"]) for row in rows] == [
        (0, 2, ""), (1, 1, "does not help"),
    ]  # fmt: skip
    assert result.gain.mean == 0.5
    hint = scenes[0].hint
    assert f"{scenes[0].problem.problem}\n\nHint. Look: {hint.look}\nReason: {hint.reason}\n\nThink." in asked
    assert len(asked) == 8
    measure(files)
    assert len(asked) == 8, "answered twice"


def test_an_adapter_measures(files, tiny_path, monkeypatch, capsys):
    make_adapter(tiny_path, files / "lora")
    paths = [str(files / name) for name in ("h.jsonl", "p.jsonl", "useful.jsonl", "lora")]
    command = ["hints", "usefulness", paths[0], "--problems", paths[1], "--out", paths[2], "--model", paths[3]]
    monkeypatch.setattr("sys.argv", ["ptdpo", *command, "--draws", "1", "--max-tokens", "2"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "gain in pass@1" in capsys.readouterr().out
    assert len((files / "useful.jsonl").read_text().splitlines()) == 2


def test_what_cannot_be_measured_here(files, scenes):
    for sampling in (Sampling(temperature=None), Sampling(top_p=None), Sampling(extra='{"top_k": 3}')):
        with pytest.raises(ValueError, match="no server to leave anything to"):
            measure(files, UsefulnessSettings(2, sampling))
    with pytest.raises(ValueError, match="neither a folder here nor a hub id"):
        measure(files, model="nothing-there")
    write_hints(files / "h.jsonl", {"unknown": Hint("a", "b")}, "m")
    with pytest.raises(ValueError, match="unknown: there is a hint but no problem"):
        measure(files)
    assert not (files / "useful.jsonl").exists()
