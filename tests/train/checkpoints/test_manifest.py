"""A checkpoint that lost, cut or changed a file is never gone on from; the newest whole one is."""

import json

import pytest

from ptdpo.train.checkpoints.manifest import (
    MANIFEST,
    RowLayout,
    check_whole,
    checkpoints_in,
    newest_whole,
    read_manifest,
    write_manifest,
)
from ptdpo.train.trl.whole_checkpoints import remove_oldest

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "sub/shard_0.pt", "trainer_state.json")


def save(folder, step):
    path = folder / f"checkpoint-{step}"
    for name in FILES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(f"{name} of step {step}".encode())
    write_manifest(path, step=step, resumable=True, inside_generation=False, layout=RowLayout(1, 4, 2, 2))
    return path


def test_old_checkpoints_leave_whole(tmp_path, monkeypatch):
    for step in (2, 4, 6, 10):
        save(tmp_path, step)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if the process died before it deleted anything
    remove_oldest(tmp_path, 2, str(tmp_path / "checkpoint-2"))
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-10", "checkpoint-6", "checkpoint-2"]


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [lose, cut, empty, flip])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, name, damage):
    first, second = save(tmp_path, 2), save(tmp_path, 10)
    assert newest_whole(tmp_path, print) == second
    damage(second / name)
    told = []
    assert newest_whole(tmp_path, told.append) == first
    (line,) = told
    assert line.startswith(f"{second}: {name} ")
    assert line.endswith("set aside as damaged-checkpoint-10; going on from checkpoint-2")
    assert (tmp_path / "damaged-checkpoint-10" / MANIFEST).exists(), "nothing is deleted"
    assert checkpoints_in(tmp_path) == [first]


@pytest.mark.parametrize("damage", [lose, empty, flip, lambda path: path.write_text("[]")])
def test_a_list_that_is_lost_or_broken_counts_as_damage(tmp_path, damage):
    path = save(tmp_path, 2)
    damage(path / MANIFEST)
    with pytest.raises(ValueError, match=r"checkpoint-2: .*manifest\.json"):
        check_whole(path)


def test_if_none_is_whole_all_stay_and_one_line_says_so(tmp_path):
    for step in (2, 4):
        lose(save(tmp_path, step) / "optimizer.pt")
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"checkpoint-4: optimizer\.pt is missing \(and 1 older.*no whole"
        ) as error:
            newest_whole(tmp_path, print)
        assert "\n" not in str(error.value)
    assert len(checkpoints_in(tmp_path)) == 2
    assert newest_whole(tmp_path / "elsewhere", print) is None


def test_the_quick_check_sees_names_and_sizes_only(tmp_path):
    path = save(tmp_path, 2)
    flip(path / "optimizer.pt")
    check_whole(path, content=False)
    cut(path / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer\.pt has \d+ bytes, saved were"):
        check_whole(path, content=False)


def test_the_list_is_read_as_it_was_written(tmp_path):
    path = save(tmp_path, 2)
    manifest = read_manifest(path)
    assert (manifest.step, manifest.layout, manifest.resumable) == (2, RowLayout(1, 4, 2, 2), True)
    assert sorted(manifest.files) == sorted(FILES)
    assert json.loads((path / MANIFEST).read_text())["files"]["optimizer.pt"]["bytes"] == len("optimizer.pt of step 2")
