"""Launch files start as many processes as their recipe is laid out for; a dry run takes the settings, and they fit."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.train.memory.advice import run_of
from ptdpo.train.memory.terms import memory_plan
from ptdpo.train.plan import resolved_settings
from ptdpo.train.trl import recipe_checks

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "launch").iterdir())


def commands(path):
    """Return the commands of a file, as lists of words."""
    text = path.read_text().replace("\\\n", " ")
    if path.suffix == ".yaml":
        text = yaml.safe_load(text).get("run", "").replace("\\\n", " ") + text
    return [
        shlex.split(line.strip(" #&"), posix=True)
        for line in text.splitlines()
        if re.search("ptdpo train|vllm serve", line)
    ]


def option(words, name, default=None):
    return words[words.index(name) + 1] if name in words else default


def trains(path):
    (words,) = {tuple(words) for words in commands(path) if "train" in words}
    return list(words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_fits_its_recipe(path, monkeypatch):
    words = trains(path)
    recipe, *overrides = [word for word in words[words.index("train") + 1 :] if word != "$@"]
    asked = read_recipe(ROOT / recipe, overrides)
    if path.name.startswith("accelerate"):
        launched = yaml.safe_load(path.read_text())["num_processes"]
    else:
        launched = int(option(words, "--nproc-per-node")) * int(option(words, "--nnodes", 1))
    assert asked.processes == launched
    monkeypatch.setattr(recipe_checks, "is_vllm_available", lambda: True)
    settings = resolved_settings(asked)
    recipe_checks.check_recipe_settings(settings, launched)
    planned = run_of(asked, launched, 80)
    # The paper's: 384 prompts x 8 rollouts, 128 prompts per step.
    assert (planned.layout.rollouts, planned.layout.prompts_per_step) == (3072, 128)
    assert memory_plan(planned).fits


@pytest.mark.parametrize("path", [path for path in FILES if "server" in path.name], ids=lambda path: path.name)
def test_a_server_serves_what_is_trained(path):
    (serve,) = [words for words in commands(path) if "serve" in words][:1]
    words = trains(path)
    asked = read_recipe(
        ROOT / words[words.index("train") + 1], [w for w in words if "=" in w and not w.startswith("-")]
    )
    settings = resolved_settings(asked)
    assert settings.vllm_mode == "server"
    assert serve[serve.index("serve") + 1] == asked.model
    assert int(option(serve, "--max-model-len")) == settings.vllm_max_model_length
    # TRL sends weights and ptdpo empties the cache of encoded images through what only this mode offers.
    assert "VLLM_SERVER_DEV_MODE=1" in serve
    # From vLLM 0.30 on prompts with images reach it only so.
    assert "--enable-scale-out" in serve
    assert option(serve, "--logprobs-mode") == "processed_logprobs"
    assert yaml.safe_load(option(serve, "--weight-transfer-config")) == {"backend": "nccl"}


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".yaml"], ids=lambda path: path.name)
def test_scripts_are_bash(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
