"""A study so small that it runs in seconds."""

import pytest
import yaml

SETTINGS = {
    "lessons": {"mosaics": 8, "naming_rows": 16, "step_rows": 16, "rule_rows": 16, "reading_rows": 48,
                "practice_rows": 16, "batch_size": 16},
    "habits": {"rows": 48},
    "train_problems": 8,
    "validation_problems": 4,
    "test_problems": 4,
}  # fmt: skip
TRAIN = {"max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 6,
         "record_steps": 0, "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False,
         "activation_checkpointing": False, "disable_tqdm": True}  # fmt: skip


@pytest.fixture
def write_study(tmp_path):
    def write(**changed):
        worlds = tmp_path / "worlds"
        data = f"{worlds}/{{seed}}/data"
        content = {
            "worlds": {"folder": str(worlds), "test": [0, 1], "validation": [7, 8], "settings": SETTINGS},
            "candidates": 2,
            "baseline": "grpo",
            "contrasts": [["ptd-whole", "shuffled"]],
            "gains": {"questions": 4, "samples": 1, "max_new_tokens": 6},
            "shared": {
                "model": f"{worlds}/{{seed}}/start",
                "data": {"path": f"{data}/train.jsonl", "instruction": "", "max_prompt_tokens": 300},
                "train": TRAIN,
                "evaluate": {"validation": f"{data}/validation.jsonl", "test": f"{data}/test.jsonl",
                             "max_new_tokens": 6},
            },
            "arms": {
                "shuffled": {**tutored(data, "shuffled"), "round": 2},
                "grpo": {"preset": "grpo", "candidates": [{"learning_rate": 1e-4}, {"learning_rate": 3e-4}]},
                "ptd-whole": tutored(data, "whole"),
            },
            **changed,
        }  # fmt: skip
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def tutored(data, grade):
    return {
        "preset": "ptd-grpo",
        "data": {"hints": f"{data}/hints-{grade}.jsonl"},
        "train": {"tutoring_k": 8},
        "candidates": [{"tutoring_weight": 0.5}, {"tutoring_weight": 2.0}],
    }
