"""Records survive kills, several processes, and other versions."""

import json

import pandas
import pytest
from PIL import Image

from ptdpo.runlog import RecordWriter, read_records, reader
from tests.runlog.lines import group, question, rollout, tokens


def written(folder, lines, process=0):
    writer = RecordWriter(folder, process)
    writer.write(lines)


def shard(folder, kind, process=0):
    return folder / "records" / f"{kind}-{process:05d}.jsonl"


def test_what_is_written_is_read(tmp_path):
    written(tmp_path, [question(), group(), tokens(), tokens(place=1, divergence=None)])
    records = read_records(tmp_path)
    (found,) = records.groups.values()
    assert found == group()
    assert records.question_of(found).hint == "Look: left"
    assert list(records.tokens) == [(1, 0, 0), (1, 0, 1)]
    assert records.tokens[1, 0, 0].divergence == [0.1, 0.4, 0.0]
    assert records.tokens[1, 0, 1].teacher is None
    assert records.broken == 0


def test_pandas_reads_the_shards(tmp_path):
    written(tmp_path, [group(step) for step in (1, 2)])
    frame = pandas.read_json(shard(tmp_path, "groups"), lines=True)
    assert frame["step"].tolist() == [1, 2]
    assert frame["rollouts"][0][1]["reason"] == "right"


def test_parts_of_a_group_on_several_processes_are_joined(tmp_path):
    written(tmp_path, [group(rollouts=[rollout(1, right=True)])], process=1)
    written(tmp_path, [group(rollouts=[rollout(0)])], process=0)
    (found,) = read_records(tmp_path).groups.values()
    assert [each.rollout for each in found.rollouts] == [0, 1]


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_line_cut_by_a_kill_is_left_out_and_written_over(tmp_path, kept):
    written(tmp_path, [group(1), group(2)])
    path = shard(tmp_path, "groups")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 1 + kept])
    records = read_records(tmp_path)
    assert list(records.groups) == [(1, 0)]
    assert records.broken == 1
    writer = RecordWriter(tmp_path)
    writer.go_on_from(2)
    writer.write([group(2)])
    assert path.read_bytes() == whole


def test_going_on_drops_the_steps_that_are_made_again(tmp_path):
    written(tmp_path, [group(step) for step in (1, 2, 3, 4)])
    written(tmp_path, [group(step, number=1) for step in (1, 2, 3, 4)], process=1)
    written(tmp_path, [group(step, number=2) for step in (1, 2, 3, 4)], process=2)
    RecordWriter(tmp_path, 0).go_on_from(2, processes=2)
    assert sorted(read_records(tmp_path).groups) == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 1), (4, 1),
    ], "process 1 cuts its own; process 2 is there no more"  # fmt: skip
    RecordWriter(tmp_path, 1).go_on_from(2, processes=2)
    assert max(step for step, _ in read_records(tmp_path).groups) == 2


def test_a_rollout_that_is_trained_on_twice_is_kept_as_first_seen(tmp_path):
    written(tmp_path, [tokens(1, divergence=(0.1, 0.1, 0.1)), tokens(2, sampled=1, divergence=(9.0, 9.0, 9.0))])
    (line,) = read_records(tmp_path).tokens.values()
    assert line.step == 1


def test_what_is_written_while_one_reads_is_whole(tmp_path, monkeypatch):
    """A step may be written between two files: its tokens must not stand there without group and question."""
    writer, read = RecordWriter(tmp_path), reader._lines
    writer.write([question(1, "q1"), group(1), tokens(1)])

    def meanwhile(*given):
        yield from read(*given)
        steps.append(len(steps) + 2)
        writer.write([question(steps[-1], f"q{steps[-1]}"), group(steps[-1], id=f"q{steps[-1]}"), tokens(steps[-1])])

    steps = []
    monkeypatch.setattr(reader, "_lines", meanwhile)
    found = read_records(tmp_path)
    assert steps == [2, 3, 4]
    assert all((line.sampled, line.group) in found.groups for line in found.tokens.values())
    assert all(found.question_of(one) is not None for one in found.groups.values())


def test_lines_of_another_version_do_not_spoil_the_rest(tmp_path):
    written(tmp_path, [group(1)])
    path = shard(tmp_path, "groups")
    row = json.loads(path.read_text())
    later = {**row, "step": 2, "new": 1, "rollouts": [{**row["rollouts"][0], "more": "x"}]}
    odd = [later, {"step": 3}, [1], None, {**row, "rollouts": None}, {**row, "rollouts": [5]}]
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in odd)
    records = read_records(tmp_path)
    assert list(records.groups) == [(1, 0), (2, 0)]
    assert records.broken == 5


def test_no_records_are_empty_records(tmp_path):
    records = read_records(tmp_path)
    assert not records.groups
    assert not records.tokens


def test_odd_text_survives(tmp_path):
    text = "</script>\x00\x1b[31m\ud800 é\u2028" + "x" * 1_000_000
    written(tmp_path, [group(rollouts=[rollout(response=text)])])
    assert read_records(tmp_path).groups[1, 0].rollouts[0].response == text


def test_images_are_kept_once_and_small(tmp_path):
    writer = RecordWriter(tmp_path)
    large, small = Image.new("RGB", (900, 300), "red"), Image.new("L", (8, 8))
    names = writer.keep_images([large, small, large, None, "gone.png"])
    assert len(names) == 3
    assert names[0] == names[2]
    records = read_records(tmp_path)
    with Image.open(records.image(names[0])) as image:
        assert image.size == (384, 128)
    assert records.image("missing.png") is None
    assert records.image("../../secret.png") is None
    assert len(list((tmp_path / "records" / "images").iterdir())) == 2
