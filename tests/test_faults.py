"""The kill test in its short form; ``make faults`` is the long one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_commands_end_as_if_nobody_had_disturbed_them(tmp_path, tiny_path):
    command = [sys.executable, "-m", "tests.faults", "--kills", "train=3", "hints=2", "evaluate=1",
               "--tiny", tiny_path, "--keep", str(tmp_path / "faults")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| train | 3 |" in done.stdout
