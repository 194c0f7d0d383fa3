"""No command writes over what it reads, or over what it did not make; --overwrite insists."""

import inspect
import shutil

import pytest
import yaml

from ptdpo import cli
from ptdpo.commands.outputs import output_file, refuse_foreign_folder
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.folders import sole_writer

SERVER = ("--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--tries", "1")


@pytest.fixture
def inputs(tmp_path, scenes, tiny_path):
    """A folder with every kind of input, all of them precious."""
    folder = tmp_path / "in"
    write_problems(folder / "p.jsonl", [s.problem for s in scenes])
    write_hints(folder / "h.jsonl", {s.problem.id: s.hint for s in scenes}, "rule")
    write_solutions(folder / "s.jsonl", [s.solution for s in scenes])
    (folder / "system.txt").write_text("Write a hint.")
    shutil.copytree(tiny_path, folder / "model")
    recipe = {
        "preset": "ptd-grpo", "model": str(folder / "model"),
        "data": {"path": str(folder / "p.jsonl"), "hints": str(folder / "h.jsonl")},
        "train": {"output_dir": str(folder / "model")},
    }  # fmt: skip
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = {
    "train": ("train", "r.yaml"),
    "sft": ("sft", "model", "p.jsonl", "s.jsonl", "--out", "model"),
    "tiny-vlm": ("data", "tiny-vlm", "model"),
    "easy-vqa": ("data", "easy-vqa", "p.jsonl", "--limit", "2"),
    "easy-vqa beside": ("data", "easy-vqa", "x.jsonl", "--limit", "2", "--hints"),
    "attach-hints": ("data", "attach-hints", "p.jsonl", "h.jsonl", "--out", "h.jsonl"),
    "demo-world": ("data", "demo-world", "0", "--out", "world"),
    "check": ("hints", "check", "h.jsonl", "--problems", "p.jsonl", "--out", "h.jsonl"),
    "review": ("hints", "review", "h.jsonl", "--problems", "p.jsonl", "--out", "p.jsonl"),
    "build": ("hints", "build", "--problems", "p.jsonl", "--out", "p.jsonl", *SERVER),
    "build over its prompt": ("hints", "build", "--problems", "p.jsonl", "--out", "system.txt", *SERVER,
                              "--system-prompt", "system.txt"),
    "recoverability": ("hints", "recoverability", "h.jsonl", "--problems", "p.jsonl", "--out", "h.jsonl", *SERVER),
    "recoverability review": ("hints", "recoverability", "h.jsonl", "--problems", "p.jsonl", "--out", "o.jsonl",
                              "--review-out", "h.jsonl", *SERVER),
    "usefulness": ("hints", "usefulness", "h.jsonl", "--problems", "p.jsonl", "--out", "p.jsonl", *SERVER),
    "usefulness review": ("hints", "usefulness", "h.jsonl", "--problems", "p.jsonl", "--out", "o.jsonl",
                          "--review-out", "p.jsonl", *SERVER),
    "build beside foreign failures": ("hints", "build", "--problems", "p.jsonl", "--out", "f.jsonl", *SERVER),
    "solutions beside foreign requests": ("solutions", "build", "--problems", "p.jsonl", "--out", "g.jsonl", *SERVER),
    "usefulness beside foreign failures": ("hints", "usefulness", "h.jsonl", "--problems", "p.jsonl", "--out",
                                           "f.jsonl", *SERVER),
    "solutions": ("solutions", "build", "--problems", "p.jsonl", "--out", "p.jsonl", *SERVER),
    "evaluate": ("evaluate", "model", "p.jsonl", "--out", "results"),
    "evaluate compare": ("evaluate", "compare", "results", "results", "--out", "results"),
    "compare": ("compare", "r.yaml", "r.yaml", "--out", "results"),
    "demo": ("demo", "--out", "world"),
    "data check": ("data", "check", "p.jsonl", "--out", "h.jsonl"),
    "report": ("report", "run", "--out", "run/metrics.jsonl"),
    "report over a page of others": ("report", "run", "--out", "page.html"),
    "analyze": ("analyze", "groups", "run", "--out", "results"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_writes_over_what_it_reads_or_did_not_make(inputs, name, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    (inputs / "x.hints.jsonl").write_text("mine\n")
    (inputs / "f.failed.jsonl").write_text('{"id": "1", "reason": "r"}\n{"id": "1", "error": "mine"}\n')
    (inputs / "g.requests.jsonl").write_text("mine")
    for made in ("world/data/notes.txt", "results/table.md", "results/comparison.md", "results/groups.json",
                 "page.html"):  # fmt: skip
        (inputs / made).parent.mkdir(parents=True, exist_ok=True)
        (inputs / made).write_text("mine\n")
    (inputs / "run").mkdir()
    (inputs / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    before = contents(inputs)
    monkeypatch.setattr("sys.argv", ["ptdpo", *COMMANDS[name]])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err.strip().splitlines()
    assert (stop.value.code, len(said)) == (2, 1), said
    assert "--overwrite" in said[0]
    assert contents(inputs) == before


def _commands(app, *names):
    for group in app.registered_groups:
        yield from _commands(group.typer_instance, *names, group.name)
    for command in app.registered_commands:
        yield " ".join([*names, command.name or command.callback.__name__]), command.callback


def test_every_command_that_writes_can_be_told_to_overwrite():
    """A command that takes a name to write to, and does not refuse what is there already, is one that destroys."""
    without = {
        name for name, function in _commands(cli.app)
        if "overwrite" not in inspect.signature(function).parameters
    }  # fmt: skip
    # They write nothing, into an empty folder, or the tables of a results folder that they read.
    assert without == {"merge", "plan", "watch", "evaluate table", "evaluate paper", "evaluate list"}


def write(path, command="hints review", text="new", **guard):
    with output_file("--out", path, command, **guard):
        path.write_text(text)


def test_a_command_may_write_its_own_file_again(tmp_path):
    path = tmp_path / "a.html"
    write(path)
    write(path, text="newer")
    with pytest.raises(ValueError, match=r"a\.html: is there already, and ptdpo hints check did not make it"):
        write(path, "hints check")
    path.write_text("edited by hand")
    with pytest.raises(ValueError, match="or it was changed since"):
        write(path)
    write(path, overwrite=True)
    assert path.read_text() == "new"


def test_an_input_is_known_by_any_name(tmp_path):
    (tmp_path / "a").write_text("input")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    for name in ("a", "b", "c"):
        with pytest.raises(ValueError, match=f"--out .*{name}: is what this command reads"):
            write(tmp_path / name, inputs=(None, "", tmp_path / "a"))


def test_a_folder_that_a_command_held_is_its_own(tmp_path):
    folder = tmp_path / "run"
    with sole_writer(folder, "sft"):
        (folder / "config.json").write_text("{}")
    refuse_foreign_folder("--out", folder, "sft", makes=("config.json",))
    with pytest.raises(ValueError, match=r"holds config\.json, which ptdpo train did not make"):
        refuse_foreign_folder("--out", folder, "train", makes=("config.json",))
    refuse_foreign_folder("--out", folder, "train", makes=("config.json",), overwrite=True)
    refuse_foreign_folder("--out", folder, "train", makes=("config.json",), marks=("config.json",))
    with pytest.raises(ValueError, match="is read by this command and lies where it writes"):
        refuse_foreign_folder("--out", folder, "sft", makes=("config.*",), inputs=(folder / "config.json",))
