"""Scoring a group and whole steps at the width of Qwen3-VL, random weights: sections of ``benchmarks/gpu.py``."""

import dataclasses
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Qwen3VLForConditionalGeneration

from prefix import Cell, batch  # type: ignore[import-not-found]
from ptdpo.data.dataset import rl_dataset
from ptdpo.models import TinyVLMSettings, load_processor, make_tiny_vlm
from ptdpo.records import Hint
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.layout import layout_of
from ptdpo.train.memory.sizes import sizes_of
from ptdpo.train.memory.terms import BESIDE, Run, Workload, memory_plan
from ptdpo.train.metrics import read_metrics
from ptdpo.tutor.head import ScoreRequest, add_scoring_head
from step import Replay, StepTimes, half_right, problems, prompt_tokens  # type: ignore[import-not-found]

GROUP, PROMPTS, WARM_UP, STEPS = 8, 2, 1, 3
RATIOS = {"1:4": 4.0, "1:1": 1.0, "4:1": 0.25}
# preset and settings of each arm of a step.
ARMS: dict[str, tuple[str, dict[str, object]]] = {
    "GRPO": ("grpo", {}),
    "GRPO, shared prefix": ("grpo", {"share_prefix": True}),
    "PTD-GRPO": ("ptd-grpo", {}),
    "PTD-GRPO, plain layout": ("ptd-grpo", {"share_prefix": False}),
}
TEXT: dict[str, dict[str, object]] = {
    "2B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "small": {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}


@dataclass(frozen=True, slots=True)
class Width:
    """A size of model, and the side in pixels of the image in a prompt: (side / 16)^2 visual tokens."""

    name: str
    side: int

    def config(self, folder: Path) -> Any:
        """Return the published sizes of both towers around the tiny model's ids."""
        config = AutoConfig.from_pretrained(folder)
        text, vision = dict(TEXT[self.name]), {}
        if self.name != "small":
            text |= {"vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128}
            vision = {
                "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
                "out_hidden_size": text["hidden_size"], "deepstack_visual_indexes": [5, 11, 17],
            }  # fmt: skip
            config.text_config.rope_parameters["mrope_section"] = [24, 20, 20]
        for part, sizes in ((config.text_config, text), (config.vision_config, vision)):
            for name, value in sizes.items():
                setattr(part, name, value)
        return config

    def model(self, folder: Path, device: torch.device) -> Qwen3VLForConditionalGeneration:
        """Return a model with random weights, in bfloat16 unless small."""
        dtype = torch.float32 if self.name == "small" else torch.bfloat16
        torch.manual_seed(0)
        with device:
            model = Qwen3VLForConditionalGeneration._from_config(self.config(folder), dtype=dtype)
        return model.to(dtype)

    def saved(self, folder: Path, device: torch.device) -> str:
        """Return the folder of such a model and its processor, saved beside the tiny one at the first call."""
        path = folder.parent / f"model-{self.name}"
        if not path.exists():
            self.model(folder, device).save_pretrained(path)
            processor = load_processor(str(folder))
            processor.image_processor.size = {"shortest_edge": 16**2, "longest_edge": self.side**2}
            processor.save_pretrained(path)
            _emptied(device)
        return str(path)


def widths(device: torch.device, names: Sequence[str]) -> list[Width]:
    """Return those named that the device has room for."""
    room = torch.cuda.mem_get_info()[1] / 2**30 if device.type == "cuda" else 0
    needed = {"small": 0, "2B": 40, "4B": 70}
    return [Width(name, 64 if name == "small" else 384) for name in names if needed[name] <= room]


def tiny(folder: Path) -> Path:
    """Make the processor, and the ids, that all sizes share."""
    settings = TinyVLMSettings(max_positions=16_384)
    return make_tiny_vlm(folder, ["what is red, blue, green or yellow in the top row of this picture?"] * 50, settings)


def scoring(device: torch.device, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield time and memory of scoring one group, forward and backward with activation checkpointing, per layout."""
    with tempfile.TemporaryDirectory() as name:
        folder = tiny(Path(name))
        for width in widths(device, names):
            for ratio in RATIOS:
                inputs, mask = batch(folder, Cell(width.side, GROUP, ratio, 0.5))
                inputs = {key: value.to(device) for key, value in inputs.items()}
                log_probs: dict[str, torch.Tensor] = {}
                gradients: dict[str, torch.Tensor] = {}
                first: float | None = None
                for layout, make in {"shared": _ours(True), "plain": _ours(False), "TRL": _trl}.items():
                    row: dict[str, object] = {
                        "what": layout, "model": width.name, "ratio": ratio,
                        "prompt": inputs["input_ids"].size(1) - mask.size(1), "response": mask.sum().item() / GROUP,
                    }  # fmt: skip
                    try:
                        model = width.model(folder, device).train()
                        work = make(model, inputs, mask.to(device))
                        log_probs[layout], ms, gb = _passes(model, work, device)
                        gradients[layout] = _of_first_keys(model)
                    except Exception as error:
                        fault = f"{type(error).__name__}: {str(error)[:200]}"
                        yield row | {"fault": fault, "right": layout == "TRL"}
                        continue
                    finally:
                        model = work = None  # type: ignore[assignment]
                        _emptied(device)
                    first = first or ms
                    apart = (log_probs[layout] - log_probs["shared"]).abs().mean().item()
                    turned = ((gradients[layout] - gradients["shared"]).norm() / gradients["shared"].norm()).item()
                    # Of a random model in bfloat16: a wrong position or a wrong mask is apart by tenths.
                    limits = (1e-4, 1e-3) if width.name == "small" else (0.02, 0.2)
                    found = {"ms": ms, "times shared": ms / first, "GB": gb, "apart": apart, "gradients apart": turned}
                    yield row | found | {"right": apart < limits[0] and turned < limits[1]}


def _of_first_keys(model: torch.nn.Module) -> torch.Tensor:
    """Return the gradient of the first layer's keys, which all that the language model does goes into."""
    every = dict(model.named_parameters())
    gradient = next(every[name].grad for name in every if name.endswith("layers.0.self_attn.k_proj.weight"))
    assert gradient is not None
    return gradient.detach().float().clone()


Scoring = Callable[[], torch.Tensor]


def _ours(shared: bool) -> Callable[..., Scoring]:
    def make(model: Any, inputs: dict[str, torch.Tensor], mask: torch.Tensor) -> Scoring:
        took = add_scoring_head(model, share_prefix=shared)
        assert took == shared, "the packed row must fit this model"
        request = ScoreRequest(inputs["input_ids"][:, -mask.size(1) :], mask)
        return lambda: model(**inputs, score=request).log_probs[mask]

    return make


def _trl(model: Any, inputs: dict[str, torch.Tensor], mask: torch.Tensor) -> Scoring:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, temperature=1.0)
    longest = mask.size(1)
    labels = inputs["input_ids"].clone()
    labels[:, :-longest] = -100
    labels[:, -longest:][~mask] = -100
    return lambda: model(**inputs, labels=labels, fused_lm_head=True).log_probs[:, -longest:][mask]


def _passes(model: Any, work: Scoring, device: torch.device) -> tuple[torch.Tensor, float, float]:
    """Return the log-probabilities, the median milliseconds of three passes and the peak GB that a pass adds."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = _reset(device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        log_prob = work()
        log_prob.sum().backward()
        _wait(device)
        times.append(time.perf_counter() - start)
    return log_prob.detach().float(), 1_000 * statistics.median(times[1:]), (_peak(device) - before) / 1e9


def steps(device: torch.device, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield seconds, ratios and peak memory of whole steps with replayed rollouts, of which every second one fails."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = tiny(Path(name) / "tiny")
        for width in widths(device, names)[:2][-1:]:
            data = problems(Path(name), PROMPTS, width.side)
            hints = {p.id: Hint(look="the top row.", reason="count what is red.") for p in data}
            path, rows = width.saved(folder, device), rl_dataset(data, hints, instruction="")
            prompt = prompt_tokens(rows[0], load_processor(path))
            for ratio in ("1:1", "1:4"):
                length, seconds = round(prompt * RATIOS[ratio]), {}
                for arm in ARMS:
                    row: dict[str, object] = {"what": arm, "model": width.name, "prompt": prompt, "response": length}
                    try:
                        found = _train(arm, path, rows, Workload(prompt, length, (width.side // 16) ** 2), device)
                    except Exception as error:
                        yield row | {"fault": f"{type(error).__name__}: {str(error)[:300]}", "right": False}
                        continue
                    finally:
                        _emptied(device)
                    seconds[arm] = float(found["seconds"])  # type: ignore[arg-type]
                    yield row | found | {"ratio": seconds[arm] / seconds["GRPO"], "right": True}
    logging.disable(logging.NOTSET)


def _train(arm: str, path: str, rows: Any, load: Workload, device: torch.device) -> dict[str, object]:
    (preset, settings), length = ARMS[arm], load.response
    known = {field.name for field in dataclasses.fields(PTDConfig)}
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    args = PTDConfig.from_preset(
        preset,
        **{
            "output_dir": f"{path}-{arm}-{length}".replace(" ", "-"), "max_steps": WARM_UP + STEPS,
            "num_generations": GROUP, "per_device_train_batch_size": GROUP * PROMPTS, "max_completion_length": length,
            "learning_rate": 1e-6, "bf16": device.type == "cuda", "report_to": "none", "save_strategy": "no",
            "disable_tqdm": True, "shuffle_dataset": False, "logging_steps": 1, "beta": 0.01, "record_steps": 0,
            checkpointing: True, **settings,
        },
    )  # fmt: skip
    # By its path, as ptdpo train does: float32 weights, bfloat16 in autocast.
    trainer = PTDTrainer(path, [half_right], args, train_dataset=rows, processing_class=load_processor(path))
    times = StepTimes()
    trainer.add_callback(times)
    trainer._generate = Replay(trainer, length)  # type: ignore[method-assign]
    # Only the prompts' ids are taken of what is generated.
    trainer.generation_config.max_new_tokens = 2
    before = _reset(device)
    trainer.train()
    parts = list(read_metrics(f"{args.output_dir}/metrics.jsonl"))[-1]
    return {
        "seconds": statistics.median(times.seconds[WARM_UP:]),
        "all": times.seconds,
        "peak GB": _peak(device) / 1e9,
        "GB before": before / 1e9,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "planned GB": _planned(trainer, load) / 1e9,
    } | {name.removeprefix("seconds/"): parts[name] for name in parts if name in ("seconds/teacher", "seconds/score")}


def _planned(trainer: Any, load: Workload) -> float:
    """Return what ``ptdpo plan`` expects the peak to be, without CUDA's context; nothing is generated here."""
    sizes = sizes_of(trainer.model.config)
    plan = memory_plan(Run(sizes, trainer.args, layout_of(trainer.args, 1), "one", load, torch.inf))
    return max(plan.phases[1:]) - BESIDE


def _reset(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _emptied(device: torch.device) -> None:
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
