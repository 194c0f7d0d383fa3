"""Hints joined to a data set, in both formats, read back by our reader and by datasets."""

from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from PIL import Image

from ptdpo.data.attach import attach_hints, write_data
from ptdpo.data.prompts import hint_text, placed_text, ready_made_hint_text, with_hint
from ptdpo.data.scan import read_problems
from ptdpo.records import Hint, Problem

HINTS = {"1": Hint("left", "count"), "gone": Hint("x", "y")}


@pytest.fixture
def problems(tmp_path):
    for number, name in enumerate("ab"):
        Image.new("RGB", (4 + number, 4), "red").save(tmp_path / f"{name}.png")
    return [
        Problem("1", (str(tmp_path / "a.png"), str(tmp_path / "b.png")), "how many?", "3", "test"),
        Problem("2", (str(tmp_path / "a.png"),), "<image>\nwhy?", "x", "test"),
        Problem("3", (), "old?", "y", "test", prompt_with_hint="old? Hint: z"),
    ]


def test_the_hint_is_what_a_teacher_reads(problems):
    joined = attach_hints(problems, HINTS)
    first, second, third = joined.problems
    assert first.prompt_with_hint == "<image><image>how many?\n\nHint. Look: left\nReason: count"
    assert ready_made_hint_text(first, "") == with_hint("how many?", hint_text(HINTS["1"]))
    assert second.prompt_with_hint is None
    assert third.prompt_with_hint == "old? Hint: z"
    assert (joined.hinted, joined.strays) == (2, ["gone"])


def test_parquet_round_trip(problems, tmp_path):
    joined = attach_hints(problems, HINTS).problems
    write_data(tmp_path / "out" / "train.parquet", joined)
    back = read_problems(tmp_path / "out" / "train.parquet")
    for was, now in zip(joined, back, strict=True):
        assert (now.id, now.answer, now.source) == (was.id, was.answer, was.source)
        assert placed_text(now.problem) == placed_text(was.problem)
        assert now.problem.count("<image>") == len(was.images)
        assert now.prompt_with_hint == (was.prompt_with_hint or "")
        assert [Path(p).read_bytes() for p in now.images] == [Path(p).read_bytes() for p in was.images]


def test_what_the_reference_does_not_know_goes_along(problems, tmp_path):
    seen = {"teacher_images": problems[1].images, "contrast_images": problems[0].images[1:]}
    more = {"hints": ("look", "look left"), "feedback": "too few", **seen}
    write_data(tmp_path / "out" / "train.parquet", [problems[0], replace(problems[1], **more), problems[2]])
    first, second, _ = read_problems(tmp_path / "out" / "train.parquet")
    assert (second.hints, second.feedback, first.hints, first.feedback) == (more["hints"], "too few", (), None)
    for name, paths in seen.items():
        assert [Path(p).read_bytes() for p in getattr(second, name)] == [Path(p).read_bytes() for p in paths]
        assert getattr(first, name) == ()


def test_trainers_of_the_reference_find_their_columns(problems, tmp_path):
    write_data(tmp_path / "train.parquet", attach_hints(problems, HINTS).problems)
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), cache_dir=str(tmp_path / "c"))
    first, second, _ = rows["train"]
    assert {"problem", "answer", "images", "prompt_with_hint"} <= set(first)
    assert [image.size for image in first["images"]] == [(4, 4), (5, 4)]
    assert first["problem"].count("<image>") == first["prompt_with_hint"].count("<image>") == len(first["images"])
    assert second["prompt_with_hint"] == ""


def test_jsonl_round_trip(problems, tmp_path):
    joined = attach_hints(problems, HINTS).problems
    write_data(tmp_path / "train.jsonl", joined)
    assert read_problems(tmp_path / "train.jsonl") == joined


def test_mistakes_are_named(problems, tmp_path):
    with pytest.raises(ValueError, match="none of the 1 hints"):
        attach_hints(problems, {"gone": Hint("x", "y")})
    with pytest.raises(ValueError, match=r"must end in \.parquet"):
        write_data(tmp_path / "train.csv", problems)
    missing = [Problem("9", (str(tmp_path / "absent.png"),), "q", "a")]
    with pytest.raises(ValueError, match=r"problem 9.*absent\.png"):
        write_data(tmp_path / "t.parquet", missing)
    assert not (tmp_path / "t.parquet").exists()
