"""The demo's three jobs on a model: warm start, RL, evaluation. Each leaves a folder that can be reused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.files import write_problems
from ptdpo.demo.setting import (
    INSTRUCTION,
    Arm,
    DemoData,
    DemoSettings,
    SftRow,
    habit_rows,
    hinted_problems,
    practice_rows,
    skill_rows,
)
from ptdpo.evaluate.scoring import Scores, load_problems, score_file
from ptdpo.evaluate.settings import SamplingSettings
from ptdpo.folders import new_folder, write_json
from ptdpo.models import TinyVLMSettings, load_processor, make_tiny_lm, make_tiny_vlm
from ptdpo.runlog import FINISHED, METRICS_FILE
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.trl.sft import fine_tune_on_cpu


@dataclass(frozen=True, slots=True)
class ArmRun:
    """A trained arm: where its model and its metrics.jsonl lie."""

    name: str
    folder: Path

    @property
    def metrics(self) -> Path:
        """Return the path of metrics.jsonl."""
        return self.folder / METRICS_FILE


def warm_start(folder: Path, world: int, settings: DemoSettings) -> Path:
    """Make a tiny model, teach it a world's skills and habits, and return its folder; done once per folder."""
    finished, warm = folder / "start", settings.warm_start
    if not finished.exists():
        skilled = practised(folder, taught_skills(folder, world, settings), world, settings)
        rows = habit_rows(folder, world, settings)
        fine_tune(skilled, rows, finished, world, warm.habit_learning_rate, warm.batch_size)
    return finished


def taught_skills(folder: Path, world: int, settings: DemoSettings) -> Path:
    """Make a tiny model, teach it the three lessons, and return its folder."""
    fresh, skilled, warm = folder / "fresh", folder / "skilled", settings.warm_start
    if not skilled.exists():
        rows = skill_rows(folder, world, settings)
        texts = [f"{text} {response}" for _, text, response in rows[:100] + rows[-2_000:]]
        make = make_tiny_lm if settings.in_words else make_tiny_vlm
        make(fresh, texts, TinyVLMSettings(seed=world))
        fine_tune(fresh, rows, skilled, world, warm.learning_rate, warm.batch_size)
    return skilled


def practised(folder: Path, model: Path, world: int, settings: DemoSettings) -> Path:
    """Let a model practise in rounds until it follows hints or the rounds are used up; returns its last folder."""
    warm = settings.warm_start
    for number in range(warm.practice_rounds):
        if hint_accuracy(folder, model, world, settings) >= warm.follows_hints:
            break
        better = folder / f"practised-{number}"
        if not better.exists():
            rows = practice_rows(folder, world, number, settings)
            fine_tune(model, rows, better, world, warm.learning_rate, warm.batch_size)
        model = better
    return model


def hint_accuracy(folder: Path, model: Path, world: int, settings: DemoSettings) -> float:
    """Return the share of validation questions that a model gets right when it reads their hint, sampled once."""
    probe = folder / "warm-start" / "hinted.jsonl"
    if not probe.exists():
        write_problems(probe, hinted_problems(folder, world, settings))
    loaded = load_problems(probe, "hinted", INSTRUCTION, probe.parent)
    sampling = SamplingSettings(max_new_tokens=settings.max_new_tokens, seed=world, batch_size=120)
    return score_file(folder / "warm-start" / f"hinted-{model.name}", str(model), loaded, sampling).accuracy


def fine_tune(
    model: Path, rows: Sequence[SftRow], folder: Path, seed: int, learning_rate: float, batch_size: int
) -> None:
    """Fine-tune in the order of the rows; the folder appears only when it is complete."""
    with new_folder(folder) as partial:
        fine_tune_on_cpu(
            str(model), rows, partial, batch_size=batch_size, learning_rate=learning_rate, seed=seed, in_order=True
        )


def train_arm(
    name: str, arm: Arm, start: Path, data: DemoData, folder: Path, seed: int, settings: DemoSettings
) -> ArmRun:
    """Train one arm from the warm start and save its model; every arm sees the same prompts in the same order."""
    hints = {scene.problem.id: scene.hint for scene in data.train}
    args = PTDConfig.from_preset(
        arm.preset,
        output_dir=str(folder),
        learning_rate=arm.learning_rate,
        tutoring_weight=arm.tutoring_weight,
        rl_weight=arm.rl_weight,
        tutoring_k=settings.top_k,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.prompts_per_step * settings.rollouts,
        num_generations=settings.rollouts,
        max_completion_length=settings.max_new_tokens,
        seed=seed,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        save_strategy="no",
        report_to="none",
    )
    trainer = PTDTrainer(
        str(start),
        None,
        args,
        train_dataset=rl_dataset([s.problem for s in data.train], hints, instruction=INSTRUCTION),
        processing_class=load_processor(str(start)),
    )
    trainer.train()
    trainer.save_model(str(folder))
    write_json(folder / FINISHED, {"arm": name, "seed": seed})
    return ArmRun(name, folder)


def score(out: Path, model: Path, data: DemoData, seed: int, settings: DemoSettings) -> Scores:
    """Answer each test question once, sampled at temperature 1, question only; ``out`` keeps the answers."""
    loaded = load_problems(data.folder / "test.jsonl", "test", INSTRUCTION, data.folder)
    sampling = SamplingSettings(max_new_tokens=settings.max_new_tokens, seed=seed, batch_size=120)
    return score_file(out, str(model), loaded, sampling)
