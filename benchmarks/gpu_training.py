"""Three steps of presets with a tiny Qwen3-VL on the device at hand: a section of ``benchmarks/gpu.py``."""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.metrics import read_metrics

# Those that need neither a second model nor solutions.
RUNS: dict[str, dict[str, object]] = {
    "ptd-grpo, torch head": {"preset": "ptd-grpo", "head": "torch"},
    "ptd-grpo, dense head": {"preset": "ptd-grpo", "head": "dense"},
    "ptd-grpo": {"preset": "ptd-grpo"},
    "ptd-grpo, bf16": {"preset": "ptd-grpo", "bf16": True},
    "ptd-grpo, plain prefix": {"preset": "ptd-grpo", "share_prefix": False},
    "grpo": {"preset": "grpo"},
    "ptd-dapo": {"preset": "ptd-dapo"},
    "ptd-gspo": {"preset": "ptd-gspo"},
    "sdpo": {"preset": "sdpo"},
    "hdpo": {"preset": "hdpo"},
    "papo-printed": {"preset": "papo-printed"},
}


class Alternating:
    """An accuracy that does not look at the response: every fourth is right in the second half of the groups."""

    __name__ = "accuracy_reward"

    def __call__(self, completions: list[object], **_: object) -> list[float]:
        """Return 0 or 1 per response."""
        return [float(n % 4 == 0 and n >= len(completions) // 2) for n in range(len(completions))]


def training() -> Iterator[dict[str, object]]:
    """Yield loss and divergence of three steps of each run; those of the three heads must agree."""
    with tempfile.TemporaryDirectory() as folder:
        rules = hidden_rules(0)
        scenes = make_scenes(Path(folder) / "scenes", "train", [(n, rules[n]) for n in NAMES * 4], seed=0)
        texts = [f"{s.problem.problem} {s.hint.look} {s.hint.reason} {s.solution.response}" for s in scenes]
        tiny = make_tiny_vlm(Path(folder) / "tiny", texts, TinyVLMSettings())
        rows = rl_dataset([s.problem for s in scenes], {s.problem.id: s.hint for s in scenes}, instruction="")
        first: list[float] | None = None
        for name, changes in RUNS.items():
            try:
                row = _three_steps(name, dict(changes), Path(folder), str(tiny), rows)
            except Exception as error:
                yield {"what": name, "fault": f"{type(error).__name__}: {str(error)[:300]}", "right": False}
                continue
            divergences = row["divergence"]
            assert isinstance(divergences, list)
            if "head" in name or name == "ptd-grpo":
                first = first or divergences
                apart = max(abs(a - b) for a, b in zip(first, divergences, strict=True))
                row |= {"apart": apart, "right": bool(row["right"]) and apart < 1e-4}
            yield row


def _three_steps(name: str, changes: dict[str, object], folder: Path, tiny: str, rows: object) -> dict[str, object]:
    torch.manual_seed(0)
    settings = {
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_generations": 8,
        "max_completion_length": 24, "max_steps": 3, "learning_rate": 1e-4, "bf16": False, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "tutoring_k": 20, "seed": 0, **changes,
    }  # fmt: skip
    preset = str(settings.pop("preset"))
    args = PTDConfig.from_preset(preset, output_dir=str(folder / name.replace(" ", "-")), **settings)
    trainer = PTDTrainer(
        load_model(tiny), [Alternating()], args, train_dataset=rows, processing_class=load_processor(tiny)
    )  # type: ignore[arg-type]
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    found = list(read_metrics(f"{args.output_dir}/metrics.jsonl"))
    losses = [float(step["loss"]) for step in found if "loss" in step]
    divergences = [float(v) for step in found for k, v in step.items() if k == "divergence"]
    right = len(losses) == 3 and all(math.isfinite(x) for x in losses + divergences)
    right = right and (not preset.startswith("ptd") or (len(divergences) == 3 and min(divergences) > 0))
    device = trainer.accelerator.device.type
    return {
        "what": name, "device": device, "loss": losses, "divergence": divergences, "seconds": seconds, "right": right,
    }  # fmt: skip
