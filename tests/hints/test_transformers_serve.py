"""Hints from a real model behind a real server: a tiny Qwen3-VL in ``transformers serve``."""

import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service, WorkFiles
from ptdpo.chat.requests import Sampling
from ptdpo.data.dataset import sft_dataset
from ptdpo.data.files import read_hints, write_problems
from ptdpo.hints.build import BuildSettings, build_hints
from ptdpo.hints.prompt import hint_messages, system_prompt
from ptdpo.models import load_model, load_processor
from ptdpo.records import Hint
from ptdpo.train.trl.sft import cpu_sft_settings, run_sft
from tests.hints.build_worker import no_leak

ROOT = Path(__file__).parents[2]
HINT = '{"look": "the tile", "reason": "read it"}'


@pytest.fixture(scope="module")
def prompt(tmp_path_factory):
    """A system prompt that a tiny model has room for."""
    path = tmp_path_factory.mktemp("prompt") / "system.txt"
    path.write_text("hint")
    return system_prompt(path)


@pytest.fixture(scope="module")
def trained(tiny_path, scenes, prompt, tmp_path_factory):
    """The tiny model, taught to give one hint whatever the question."""
    folder = tmp_path_factory.mktemp("trained")
    texts = [hint_messages(s.problem, prompt)[1].text for s in scenes]
    rows = [(s.problem.images, text, f"<think>see</think>{HINT}") for s, text in zip(scenes, texts, strict=True)] * 30
    told = {"role": "system", "content": prompt.text}
    dataset = sft_dataset(rows).map(lambda row: {"prompt": [told, *row["prompt"]]})
    settings = cpu_sft_settings(folder, steps=math.ceil(len(rows) / 8), batch_size=8, learning_rate=1e-2)
    run_sft(load_model(tiny_path), load_processor(tiny_path), dataset, settings)
    return folder


@pytest.fixture(scope="module")
def url(trained):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.hints.serve_tiny", str(trained), str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}/src"})
    try:
        deadline = time.monotonic() + 120
        while not _healthy(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


def _healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


@pytest.mark.slow
def test_hints_from_a_real_server(url, trained, prompt, scenes, tmp_path):
    problems, out = tmp_path / "problems.jsonl", tmp_path / "hints.jsonl"
    write_problems(problems, [s.problem for s in scenes[:6]])
    settings = BuildSettings(prompt, Sampling(max_tokens=80, temperature=0.1))
    service = Service(Endpoint(url, str(trained)), settings=ClientSettings(concurrency=3, timeout=120))
    report = build_hints(problems, out, service, settings, check=no_leak)
    assert (report.done, report.failed) == (6, [])
    assert read_hints(out) == {s.problem.id: Hint("the tile", "read it") for s in scenes[:6]}
    assert report.usage.requests >= 6
    assert report.usage.prompt_tokens > 6 * 20
    again = build_hints(problems, out, service, settings, check=no_leak)
    assert (again.known, again.usage.requests) == (6, 0)
    assert not WorkFiles.beside(out).failed.exists()
