"""A signal to one of two processes stops both after the same step; rows without images stay out of their run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ptdpo.data.files import write_hints, write_problems
from ptdpo.signals import REQUEUE
from ptdpo.train.checkpoints.manifest import check_whole, checkpoints_in
from ptdpo.train.metrics import read_metrics
from tests.torchrun import torchrun

WORKER = Path(__file__).with_name("stop_worker.py")


@pytest.mark.slow
def test_two_processes_agree_on_a_stop(tmp_path, tiny_path, scenes):
    problems = [replace(scene.problem, images=() if number < 3 else scene.problem.images)
                for number, scene in enumerate(scenes)]  # fmt: skip
    write_problems(tmp_path / "p.jsonl", problems)
    write_hints(tmp_path / "h.jsonl", {scene.problem.id: scene.hint for scene in scenes}, "rule")
    recipe = {
        "preset": "ptd-grpo", "model": tiny_path, "processes": 2,
        "data": {"path": str(tmp_path / "p.jsonl"), "hints": str(tmp_path / "h.jsonl"), "instruction": "",
                 "max_prompt_tokens": 256, "without_image": "drop"},
        "train": {"output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4, "num_generations": 4,
                  "gradient_accumulation_steps": 1, "max_completion_length": 4, "max_steps": 4, "tutoring_k": 10,
                  "use_cpu": True, "bf16": False, "report_to": "none", "save_steps": 100, "ddp_timeout": 60},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    said = torchrun(WORKER, tmp_path / "r.yaml", tmp_path)
    assert [json.loads((tmp_path / f"code-{rank}.json").read_text()) for rank in (0, 1)] == [REQUEUE, REQUEUE]
    (checkpoint,) = checkpoints_in(tmp_path / "run")
    assert check_whole(checkpoint).step == 2
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2]
    assert not (tmp_path / "run" / "finished.json").exists()
    assert f"3 of {len(problems)} problems have no image" in said
