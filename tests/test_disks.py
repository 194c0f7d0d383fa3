"""A disk that takes no more, and a folder that vanishes: one line that names the file, and the same command goes on."""

import resource
import shutil
from contextlib import contextmanager

import pytest

from ptdpo import cli
from ptdpo.chat.store import AppendOnlyFile
from ptdpo.folders import sole_writer
from ptdpo.train.checkpoints.manifest import check_whole, checkpoints_in
from tests import faults
from tests.chat.loopback import LoopbackServer


@contextmanager
def small_files(size):
    """Let this process write no file of more than so many bytes, as ``ulimit -f`` does and a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_path):
    folder = tmp_path_factory.mktemp("disks") / "inputs"
    faults.make_inputs(folder, tiny_path)
    return folder


@pytest.fixture
def command(tmp_path, inputs, monkeypatch, capsys):
    """Run a command of the kill test in a folder; returns its exit code and the last line of what it said."""

    def run(name, folder, behave=faults.answer, *more):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        with LoopbackServer(behave) as server:
            (case,) = (one for one in faults.cases(inputs, server.url) if one.name == name)
            monkeypatch.setattr("sys.argv", ["ptdpo", *case.arguments(folder), *more])
            code = 0
            try:
                cli.main()
            except SystemExit as end:
                code = end.code or 0
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return code, said.strip().splitlines()[-1] if said.strip() else ""

    def left(name, folder):
        (case,) = (one for one in faults.cases(inputs, "http://127.0.0.1:1") if one.name == name)
        return case.left(folder)

    run.left = left
    return run


@pytest.mark.parametrize(
    ("name", "size", "file"),
    [
        ("hints", 200, "h.requests.jsonl"),
        ("hints", 3000, "h.requests.jsonl"),
        ("solutions", 3000, "s.requests.jsonl"),
        ("evaluate", 200, "settings.json"),
        ("evaluate", 1500, "responses.jsonl"),
    ],
)
def test_a_file_size_limit_is_one_line_and_the_same_command_goes_on(tmp_path, command, name, size, file):
    assert command(name, tmp_path / "calm")[0] == 0
    with small_files(size):
        code, said = command(name, tmp_path / "cut")
    assert code == 2
    assert said.startswith("ptdpo: ")
    assert "File too large" in said
    assert file in said
    assert command(name, tmp_path / "cut")[0] == 0
    assert command.left(name, tmp_path / "cut") == command.left(name, tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "what"), [(100_000, "checkpoint-4"), (3000, "groups-00000.jsonl")])
def test_training_keeps_its_last_checkpoint_and_goes_on(tmp_path, command, size, what):
    assert command("train", tmp_path / "calm")[0] == 0
    assert command("train", tmp_path / "cut", faults.answer, "max_steps=2")[0] == 0
    with small_files(size):
        code, said = command("train", tmp_path / "cut")
    assert code == 2
    assert what in said
    assert "File too large" in said
    (kept,) = checkpoints_in(tmp_path / "cut" / "run")
    assert check_whole(kept).step == 2
    assert not (tmp_path / "cut" / "run" / "finished.json").exists()
    assert command("train", tmp_path / "cut")[0] == 0
    assert command.left("train", tmp_path / "cut") == command.left("train", tmp_path / "calm")


@pytest.mark.parametrize("name", ["hints", "solutions"])
def test_a_folder_that_vanishes_is_no_success(tmp_path, command, name):
    folder = tmp_path / "out"

    def vanish(body, number):
        if number == 5:
            shutil.rmtree(folder)
        return faults.answer(body, number)

    code, said = command(name, folder, vanish)
    assert code == 2
    assert ".jsonl" in said
    assert "No such file" in said


def test_a_lock_that_cannot_be_written_is_named(tmp_path):
    with small_files(10), pytest.raises(OSError, match="File too large") as refused, sole_writer(tmp_path, "train"):
        pass
    assert refused.value.filename == str(tmp_path / ".lock")


def test_a_folder_that_was_removed_and_made_again_is_no_success(tmp_path):
    def write():
        with sole_writer(tmp_path / "out", "sft"):
            (tmp_path / "out").rename(tmp_path / "elsewhere")
            (tmp_path / "out").mkdir()

    with pytest.raises(ValueError, match="was removed while ptdpo sft was writing there"):
        write()


def test_training_ends_when_its_folder_is_removed(tmp_path, command, monkeypatch):
    from ptdpo.train.trainer import PTDTrainer

    def removing(trainer, *arguments, step=PTDTrainer.training_step, **keywords):
        if trainer.state.global_step == 1:
            shutil.rmtree(tmp_path / "out" / "run")
        return step(trainer, *arguments, **keywords)

    monkeypatch.setattr(PTDTrainer, "training_step", removing)
    code, said = command("train", tmp_path / "out")
    assert code == 2
    assert "was removed while ptdpo train was writing there" in said
    assert not (tmp_path / "out" / "run" / "finished.json").exists()


def test_an_output_that_was_removed_after_its_last_line_is_no_success(tmp_path):
    file = AppendOnlyFile(tmp_path / "a.jsonl")
    file.append({"id": "1"})
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jsonl"):
        file.close()
