"""Does tutoring teach where an answer takes two turns? ``python -m tests.boards.curve FOLDER`` trains and draws.

GRPO and PTD-GRPO begin with the same start model (``tests.boards.world``), which calls the tool and copies what it is
shown, but does not know for what to ask. Every batch has boards of its own, so the accuracy of its rollouts, which the
policy samples without hints, is on boards that it has not seen. Finished runs are read, not made again.
"""

import argparse
import json
from pathlib import Path

import datasets
import torch
import transformers
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.metrics import read_metrics
from tests.boards.world import Board, found, make_rows, make_start

ARMS = {"GRPO": ("grpo", {}), "PTD-GRPO": ("ptd-grpo", {"tutoring_weight": 2.0})}
SETTINGS = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 2,
    "num_generations": 8,
    "max_completion_length": 48,
    "max_tool_calling_iterations": 1,
    "max_steps": 50,
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "activation_checkpointing": False,
    "record_steps": 0,
}


def train(start, folder, preset, seed, **settings):
    """Train one arm, and return the accuracy of each step's rollouts."""
    if not (Path(folder) / "done").exists():
        args = PTDConfig.from_preset(preset, output_dir=str(folder), seed=seed, **{**SETTINGS, **settings})
        rows = datasets.Dataset.from_list(make_rows(8 * args.max_steps, seed=seed))
        PTDTrainer(start, found, args, train_dataset=rows, environment_factory=Board).train()
        (Path(folder) / "done").touch()
    return [line["accuracy"] for line in read_metrics(Path(folder) / "metrics.jsonl") if "accuracy" in line]


def draw(curves, path, width=5):
    """Draw the mean over seeds of every arm, each smoothed over some steps, and every seed thinly."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for number, (arm, runs) in enumerate(curves.items()):
        smooth = [
            [sum(run[max(0, n - width + 1) : n + 1]) / min(n + 1, width) for n in range(len(run))] for run in runs
        ]
        for run in smooth:
            axes.plot(range(1, len(run) + 1), run, color=f"C{number}", alpha=0.25, linewidth=0.8)
        mean = [sum(column) / len(column) for column in zip(*smooth, strict=True)]
        axes.plot(range(1, len(mean) + 1), mean, color=f"C{number}", label=arm)
    axes.set(xlabel="optimiser step", ylabel=f"accuracy of rollouts, mean of {width} steps", ylim=(0, 1))
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=SETTINGS["max_steps"])
    parser.add_argument("--lr", type=float, default=SETTINGS["learning_rate"])
    parser.add_argument("--figure", help="where the picture goes; FOLDER/curve.svg")
    given = parser.parse_args(arguments)
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    folder, curves = Path(given.folder), {arm: [] for arm in ARMS}
    start = folder / "start"
    if not (start / "config.json").exists():
        make_start(start)
    for seed in range(given.seeds):
        for arm, (preset, own) in ARMS.items():
            settings = {**own, "learning_rate": given.lr, "max_steps": given.steps}
            run = train(str(start), folder / f"{preset}-{seed}", preset, seed, **settings)
            curves[arm].append(run)
            last = sum(run[-10:]) / 10
            print(f"seed {seed}, {arm}: first step {run[0]:.3f}, last ten {last:.3f}", flush=True)
    (folder / "curves.json").write_text(json.dumps(curves))
    draw(curves, given.figure or folder / "curve.svg")


if __name__ == "__main__":
    main()
