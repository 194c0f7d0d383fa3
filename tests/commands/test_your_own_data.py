"""Every command of docs/your_own_data.md, run in order as printed."""

import json
import re
import shlex
import shutil
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.chat.loopback import LoopbackServer, Say

PAGE = Path(__file__).parents[2] / "docs" / "your_own_data.md"
pytestmark = pytest.mark.slow
ON_A_CPU = ["train.use_cpu=true", "train.bf16=false"]


def fences(kind=""):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    return [text for name, text in blocks if name == kind]


def table(path, scenes):
    rows = [
        {"question": s.problem.problem, "answer": s.problem.answer, "image": png(s.problem.images[0])} for s in scenes
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def png(path):
    data = BytesIO()
    Image.open(path).save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


def commands(**variables):
    """Yield the page's commands as lists of words, shell variables put in."""
    lines = [line for fence in fences() for line in fence.splitlines() if line.startswith("ptdpo ")]
    for line in lines:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        assert "$" not in line
        yield shlex.split(line)[1:]


def test_every_command_of_the_page(tmp_path, monkeypatch, scenes, tiny_path):
    from ptdpo.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    table("train.parquet", scenes[:8])
    table("test.parquet", scenes[8:])
    shutil.copytree(tiny_path, "start")
    Path("mine.yaml").write_text(fences("yaml")[0])
    said = {}
    hint = Say(json.dumps({"look": "the row that the name stands for", "reason": "add what its cells are worth"}))
    with LoopbackServer(lambda body, number: hint) as writer:
        for words in commands(MODEL="start", WRITER_URL=writer.url, WRITER="writer"):
            trains = words[0] == "train"
            result = CliRunner().invoke(app, words + ON_A_CPU * trains)
            assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}\n{result.exception!r}"
            said[" ".join(words[:2])] = result.output
    assert len(writer.received) >= 8
    assert len(Path("hints.jsonl").read_text().splitlines()) == 8
    for run in ("grpo", "ptd_grpo"):
        steps = [json.loads(line) for line in Path("runs", run, "metrics.jsonl").read_text().splitlines()]
        assert len(steps) == 2
        assert ("divergence" in steps[-1]) == (run == "ptd_grpo")
    assert "start" in Path("report.html").read_text()
    assert "ptd_grpo_results" in said["evaluate compare"].replace("\n", "")
