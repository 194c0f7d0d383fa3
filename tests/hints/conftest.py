"""What several files of this folder start from."""

import pytest
from PIL import Image

from ptdpo.data.files import write_problems
from ptdpo.records import Problem


@pytest.fixture
def problems(tmp_path):
    """Twenty problems with one image."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    path = tmp_path / "problems.jsonl"
    write_problems(
        path, [Problem(str(n), (str(tmp_path / "a.png"),), f"question {n}", f"answer {n}") for n in range(20)]
    )
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "hints.jsonl"
