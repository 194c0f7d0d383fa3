"""``ptdpo study``: tables of what is finished, several processes, and whose folder it is."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from ptdpo import cli
from ptdpo.study.run import helper_command


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["ptdpo", "study", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_tables_of_an_unfinished_study_train_nothing(tmp_path, write_study, monkeypatch, capsys):
    code = run(monkeypatch, write_study(), "--out", tmp_path / "out", "--only-tables")
    assert code == 0
    assert "Not begun: grpo" in capsys.readouterr().out
    assert (tmp_path / "out" / "study.md").exists()
    assert not (tmp_path / "worlds").exists()
    code = run(monkeypatch, tmp_path / "study.yaml", "--out", tmp_path / "out", "--only-tables")
    assert code == 0, "the folder is the study's own"


def test_a_study_that_was_refused_goes_on_in_its_folder_when_it_is_mended(tmp_path, write_study, monkeypatch, capsys):
    wrong = {"preset": "grpo", "candidates": [{"beta": 0.0}, {"beta": 0.1}], "train": {"no_such": 1}}
    path = write_study()
    right = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**right, "arms": {**right["arms"], "wrong": wrong}}))
    assert run(monkeypatch, path, "--out", tmp_path / "out", "--only-tables") == 2
    assert "arm wrong: " in capsys.readouterr().err
    path.write_text(yaml.safe_dump(right))
    assert run(monkeypatch, path, "--out", tmp_path / "out", "--only-tables") == 0


def test_a_folder_of_something_else_is_not_written_to(tmp_path, write_study, monkeypatch, capsys):
    (tmp_path / "out" / "recipes").mkdir(parents=True)
    (tmp_path / "out" / "recipes" / "mine.yaml").write_text("mine")
    assert run(monkeypatch, write_study(), "--out", tmp_path / "out", "--only-tables") == 2
    assert "holds recipes, which ptdpo study did not make" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_jobs_of_one_study(tmp_path, write_study):
    recipe, folder = write_study(), tmp_path / "out"
    command = [*helper_command(recipe, folder)[:-3], "--workers", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = [line.split(" (")[0] for line in ended.stdout.splitlines() if line.endswith(" left)") and "step" not in line]
    assert len(said) == len(set(said)) == 27, "each job once, whoever did it"
    runs = json.loads((folder / "study.json").read_text())["runs"]
    assert {name: sorted(worlds) for name, worlds in runs.items()} == {
        "grpo": ["0", "1"],
        "ptd-whole": ["0", "1"],
        "shuffled": ["0", "1"],
    }
    assert sys.executable == command[0]
