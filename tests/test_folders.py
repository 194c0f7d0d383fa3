"""Files are whole or as before, folders have one writer, and what they were made with is compared by name."""

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ptdpo.chat.images import data_url
from ptdpo.data.images import open_image
from ptdpo.folders import (
    LOCK,
    append_line,
    claim,
    differences,
    last_writer,
    new_folder,
    read_claim,
    regular_file,
    replacing,
    sole_writer,
    write_json,
    write_text,
    write_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_as_before_until_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    with suppress(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "one"
        raise KeyboardInterrupt
    assert (path.read_text(), names(path.parent)) == ("one", ["a.txt"])
    write_text(path, "two")
    assert (path.read_text(), names(path.parent)) == ("two", ["a.txt"])


def test_a_full_disk_names_the_file_and_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(OSError, match=r"a\.json'") as refused, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert refused.value.filename == str(path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_processes_that_share_a_file_write_beside_each_other(tmp_path):
    path = tmp_path / "image.png"
    with replacing(path, shared=True) as mine:
        with replacing(path, shared=True) as other:
            assert mine.name != other.name
            other.write_bytes(b"y")
        mine.write_bytes(b"x")
        path.write_bytes(b"x")
    assert names(tmp_path) == ["image.png"]


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []


def test_a_folder_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "model"
    with suppress(RuntimeError), new_folder(path) as partial:
        (partial / "half").write_text("")
        raise RuntimeError
    assert not path.exists()
    for content in ("one", "two"):
        with new_folder(path) as partial:
            assert names(partial) == [], "what was cut off before is gone"
            (partial / "sub").mkdir()
            (partial / "sub" / content).write_text(content)
        assert (names(tmp_path), names(path / "sub")) == (["model"], [content])


HOLD = """
import sys, time
from ptdpo.folders import sole_writer
with sole_writer(sys.argv[1], "train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_is_told_who_the_first_is(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told = rf"ptdpo train \(process {holder.pid} on .*, since .*\) is writing there; wait"
        with pytest.raises(ValueError, match=told), sole_writer(tmp_path, "compare"):
            pass
        holder.kill()
    with sole_writer(tmp_path, "compare"):
        assert last_writer(tmp_path).command == "compare"
    assert names(tmp_path) == [LOCK]


def test_a_forked_child_does_not_prolong_the_lock(tmp_path):
    (wait, end), (started, start) = os.pipe(), os.pipe()
    with sole_writer(tmp_path, "train"):
        child = os.fork()
        if child == 0:
            os.close(end)
            os.write(start, b"x")
            os.read(wait, 1)
            os._exit(0)
        assert os.read(started, 1) == b"x"
    try:
        with sole_writer(tmp_path, "train"):
            pass
    finally:
        for number in (end, wait, started, start):
            os.close(number)
        os.waitpid(child, 0)


@dataclass
class Inner:
    b: int
    c: str


def test_differences_are_named_with_both_values():
    found = differences({"a": Inner(1, "x"), "d": 3}, {"a": Inner(2, "x"), "e": None})
    assert [(one.name, one.made, one.asked) for one in found] == [
        ("a.b", 1, 2),
        ("d", 3, "nothing"),
        ("e", "nothing", None),
    ]


def test_a_claim_is_kept_and_another_is_refused(tmp_path):
    path = tmp_path / "settings.json"
    claim(path, {"seed": 1, "sizes": (1, 2)}, "take another")
    claim(path, {"seed": 1, "sizes": (1, 2)}, "take another")
    with pytest.raises(
        ValueError, match=r"settings\.json: made with seed=1, but now seed=2 is asked for: take another"
    ):
        claim(path, {"seed": 2, "sizes": (1, 2)}, "take another")
    for broken in ("", "[]", "{"):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"settings\.json: does not say what the folder was made with"):
            read_claim(Path(path))


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "m.jsonl"
    append_line(path, "one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            append_line(path, "three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.filename == str(path)
    assert path.read_text() == "one\n"


def test_a_file_that_was_removed_takes_no_more_lines(tmp_path):
    with (tmp_path / "a").open("ab") as file:
        for other in (False, True):
            (tmp_path / "a").unlink()
            if other:
                (tmp_path / "a").write_text("another's")
            with pytest.raises(FileNotFoundError, match=r"no longer the file that was opened|No such file"):
                write_whole(file.fileno(), tmp_path / "a", b"x")
            (tmp_path / "a").touch()


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="is a folder, a pipe or a device, not a recipe"):
            regular_file(path, "recipe")
    with pytest.raises(ValueError, match="gone: no such image"):
        regular_file(tmp_path / "gone", "image")
    with pytest.raises(ValueError, match="pipe: is a folder, a pipe or a device"):
        open_image(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is a folder, a pipe or a device"):
        data_url(tmp_path / "pipe")


@pytest.mark.parametrize("command", ["evaluate", "compare", "analyze"])
def test_only_training_has_several_processes(tmp_path, monkeypatch, command):
    """Under torchrun the second process would be told that the first writes there, and end it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = pytest.raises(
        ValueError, match=f"{command} runs in one process, but 2 were launched: start it without torchrun"
    )
    with told, sole_writer(tmp_path / "out", command):
        pass
    assert not (tmp_path / "out").exists()
    with sole_writer(tmp_path / "out", "train"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with sole_writer(tmp_path / "out", command):
        pass
