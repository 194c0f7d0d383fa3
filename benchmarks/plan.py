"""What ``ptdpo plan`` says of a step against one that runs: operations of every phase, bytes of what is held.

A small Qwen3-VL on the CPU, one optimiser step, replayed rollouts of equal length, half of them failed; operations are
those that torch's FlopCounterMode counts, bytes those of the tensors. Exit code 1 if anything is off by more than 10 %.
Writes results/plan.json.
Run: make bench, or python benchmarks/plan.py --help
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers.utils.logging import disable_progress_bar

from ptdpo.data.dataset import rl_dataset
from ptdpo.models import TinyVLMSettings, load_processor, make_tiny_vlm
from ptdpo.records import Hint, Problem
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.engine import RolloutRecord
from ptdpo.train.layout import layout_of
from ptdpo.train.memory.sizes import sizes_of
from ptdpo.train.memory.terms import Run, Workload, memory_plan
from ptdpo.train.trl.batches import RECORDS
from ptdpo.train.work.phases import Lengths, phases_of

RESULTS = Path(__file__).parent / "results"
GROUP, NEAR = 4, 0.1


# torch counts attention on GPUs only; like there, what a causal mask hides counts too.
def _attention(query, key, value, *_, out_shape=None, **__):
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient, query, key, value, *_, out_shape=None, **__):
    return sdpa_backward_flop_count(gradient, query, key, value)


ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
ARMS = {
    "GRPO, plain layout": ("grpo", {}),
    "GRPO, shared prefix": ("grpo", {"share_prefix": True}),
    "PTD-GRPO": ("ptd-grpo", {}),
    "PTD-GRPO, plain layout": ("ptd-grpo", {"share_prefix": False}),
    "PTD-GRPO, dense head": ("ptd-grpo", {"head": "dense"}),
    "PTD-GRPO, checkpointed": ("ptd-grpo", {"activation_checkpointing": True, "gradient_checkpointing": True}),
    "PTD-GRPO, two iterations": ("ptd-grpo", {"num_iterations": 2}),
    "PAPO": ("papo", {}),
}


def half_right(completions, **_):
    return [float(n % 2) for n in range(len(completions))]


half_right.__name__ = "accuracy_reward"


class CountedTrainer(PTDTrainer):
    """Counts the operations of each phase, and keeps what is held when the step begins."""

    flops: dict[str, float]
    counter: FlopCounterMode
    length: int
    taught: int | None = None

    @contextmanager
    def counting(self, phase: str) -> Iterator[None]:
        """Count what runs into a phase, and out of the one that it lies in."""
        before = self.counter.get_total_flops()
        inside = sum(self.flops.values())
        yield
        # What phases within this one took is theirs.
        taken = self.counter.get_total_flops() - before - (sum(self.flops.values()) - inside)
        self.flops[phase] = self.flops.get(phase, 0.0) + taken

    def _generate(self, prompts):
        with self.counting("rollout"):
            prompt_ids, responses, *rest = super()._generate(prompts)
        assert {len(ids) for ids in responses} == {self.length}
        return prompt_ids, responses, *rest

    def _prepare_inputs(self, generation_batch):
        with self.counting("scoring"):
            inputs = super()._prepare_inputs(generation_batch)
        self.held = dict(inputs)
        return inputs

    def training_step(self, *args, **kwargs):
        with self.counting("update"):
            return super().training_step(*args, **kwargs)


def counted_step(path: str, rows, processor, length: int, folder: Path, preset: str, **settings):
    """Return a trainer that has made one step, and its counts."""
    args = PTDConfig.from_preset(
        preset, output_dir=str(folder), max_steps=settings.get("num_iterations", 1), num_generations=GROUP,
        per_device_train_batch_size=2 * GROUP, max_completion_length=length, use_cpu=True, bf16=False, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_steps=1000, tutoring_k=20, record_steps=0,
        generation_kwargs={"min_new_tokens": length}, optim="adamw_torch",
        **{"activation_checkpointing": False, "gradient_checkpointing": False, **settings},
    )  # fmt: skip
    trainer = CountedTrainer(path, half_right, args, train_dataset=rows, processing_class=processor)
    trainer.flops, trainer.length = {}, length
    if trainer.teacher is not None:
        read = trainer.teacher.read

        def counted(lessons, **kwargs):
            inputs, mask = trainer.teacher._inputs(lessons[:1])
            trainer.taught = inputs["input_ids"].size(1) - mask.size(1)
            with trainer.counting("teacher"):
                return read(lessons, **kwargs)

        trainer.teacher.read = counted
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as trainer.counter:
        trainer.train()
    return trainer


def planned_of(trainer: CountedTrainer) -> tuple[dict[str, float], dict[str, float]]:
    """Return the operations and the bytes that a plan has for the step that a trainer made."""
    args, held = trainer.args, trainer.held
    image = int(held["image_grid_thw"][0].prod()) // 4
    load = Workload(held["prompt_ids"].size(1), held["completion_ids"].size(1), image)
    shown = (trainer.taught or load.prompt) - load.prompt
    run = Run(sizes_of(trainer.model.config), args, layout_of(args, 1), "one", load, 80e9)
    prompts, responses, *others = phases_of(run, Lengths(load, shown, 0.5), causal=False)
    flops = {"rollout": prompts.flops + responses.flops, **{phase.name: phase.flops for phase in others}}
    names = ("weights", "optimiser", "reference and teacher", "pixels of all rollouts", "what the teacher left")
    terms = {term.name: max(term.rollout, term.update) for term in memory_plan(run).terms if term.name in names}
    return flops, {**terms, "gradients": run.gradients}


def held_of(trainer: CountedTrainer) -> dict[str, float]:
    """Return the bytes of what a trainer held in its step."""
    states = [v for state in trainer.optimizer.state.values() for name, v in state.items() if name != "step"]
    held = {
        "weights": size(trainer.model.parameters()),
        "gradients": size(trainer.model.parameters()),
        "optimiser": size(states),
        "pixels of all rollouts": size([trainer.held["pixel_values"]]),
    }
    if trainer.ref_model is not None:
        held["reference and teacher"] = size(trainer.ref_model.parameters())
    records: list[RolloutRecord] = trainer.held.get(RECORDS, [])
    read = [record.reading.teacher for record in records if record.reading.teacher is not None]
    if read:
        parts = ("hidden", "ids", "log_probs", "log_rest", "log_normaliser")
        # Of the failed half; a plan has room for all rollouts.
        held["what the teacher left"] = 2 * sum(size([getattr(one, part) for part in parts]) for one in read)
    return held


def size(tensors) -> float:
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 300], help="response tokens")
    parser.add_argument("--side", type=int, default=128, help="image side in pixels")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--out", type=Path, default=RESULTS / "plan.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bar()
    found = list(compared(options))
    table = Table("arm", "response", "what", "measured", "planned / measured")
    for row in found:
        table.add_row(row["arm"], str(row["response"]), row["what"], f"{row['measured']:.4g}", f"{row['ratio']:.3f}")
    Console(width=120).print(table)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    wrong = [row for row in found if abs(row["ratio"] - 1) > NEAR]
    Console().print(f"{len(found)} terms, {len(wrong)} off by more than {NEAR:.0%}")
    sys.exit(bool(wrong))


def compared(options) -> Iterator[dict]:
    """Yield a row for each term of each arm."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, rows = material(folder, options.hidden, options.side)
        processor = load_processor(path)
        for arm in options.arms:
            preset, settings = ARMS[arm]
            for length in options.lengths:
                trainer = counted_step(path, rows, processor, length, folder / "run", preset, **settings)
                flops, held = planned_of(trainer)
                for what, measured, planned in (
                    *((f"operations, {phase}", trainer.flops[phase], flops[phase]) for phase in trainer.flops),
                    *((f"bytes, {what}", taken, held[what]) for what, taken in held_of(trainer).items()),
                ):
                    yield {
                        "arm": arm, "response": length, "what": what, "measured": measured, "planned": planned,
                        "ratio": planned / measured if measured else float(planned == 0) or float("inf"),
                    }  # fmt: skip


def material(folder: Path, hidden: int, side: int) -> tuple[str, object]:
    """Return a small model, and rows with one image each."""
    settings = TinyVLMSettings(hidden=hidden, heads=4, key_value_heads=2, vision_layers=2)
    path = str(make_tiny_vlm(folder / "tiny", ["what is red, blue, green or yellow in the top row?"] * 50, settings))
    image = folder / "image.png"
    Image.new("RGB", (side, side), "red").save(image)
    data = [Problem(f"p{n}", (str(image),), f"{'what is red in the top row? ' * 4}{n}", "3", "bench") for n in range(4)]
    hints = {p.id: Hint(look="the top row.", reason="count what is red.") for p in data}
    return path, rl_dataset(data, hints, instruction="")


if __name__ == "__main__":
    main()
