"""Sampled rollouts as tables of the tracker that ``report_to`` names, with image and hint."""

import html
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from ptdpo.runlog import GroupLine, QuestionLine, RecordWriter
from ptdpo.runlog.lines import FOLDER, IMAGES, Line
from ptdpo.train.trl.record_files import RecordsCallback

NAME = "rollouts"
# Groups in a table, and logged steps from one table to the next: trackers keep every image of every table.
GROUPS, EVERY = 2, 10
COLUMNS = (
    "step", "question", "image", "hint", "answer", "response", "reward", "accuracy", "advantage", "tutoring",
    "drawn with",
)  # fmt: skip
Cells = tuple[object, ...]


class SampleTables(TrainerCallback):
    """Hands the newest recorded groups to wandb, trackio and TensorBoard, once in ten logged steps.

    Args:
        folder: of the run, in whose records images lie.
        handler: of the trainer's callbacks, among which TensorBoard's writer is.
    """

    def __init__(self, folder: str | Path, handler: Any) -> None:
        self._images, self._handler = Path(folder) / FOLDER / IMAGES, handler
        self._questions: dict[tuple[str, str], QuestionLine] = {}
        self._groups: list[GroupLine] = []
        self._logged = 0

    def see(self, lines: Sequence[Line]) -> None:
        """Take lines that are being recorded."""
        for line in lines:
            if isinstance(line, QuestionLine):
                self._questions[line.id, line.hint_id] = line
            elif isinstance(line, GroupLine):
                newest = self._groups and self._groups[0].step == line.step
                self._groups = [*self._groups, line][:GROUPS] if newest else [line]

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log a table of the newest groups, if it is time for one."""
        if not (state.is_world_process_zero and self._groups):
            return
        self._logged += 1
        if self._logged % EVERY != 1:
            return
        rows = [cells for group in self._groups for cells in self._cells(group)]
        for tracker, log in (("wandb", to_wandb), ("trackio", to_trackio)):
            if tracker in (args.report_to or ()):
                log(rows, state.global_step)
        for callback in self._handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                to_tensorboard(callback.tb_writer, rows, state.global_step)

    def _cells(self, group: GroupLine) -> list[Cells]:
        asked = self._questions.get((group.id, group.hint_id))
        if asked is None:
            return []
        shown = asked.question, self._image(asked.images), asked.hint, asked.answer
        return [
            (
                group.step,
                *shown,
                line.response,
                line.reward,
                line.accuracy,
                line.advantage,
                line.reason,
                line.drawn_with,
            )
            for line in group.rollouts
        ]

    def _image(self, names: Sequence[str]) -> Image.Image | None:
        """Return the images of a question side by side."""
        images = [Image.open(path).convert("RGB") for name in names if (path := self._images / name).is_file()]
        if not images:
            return None
        row = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)), "white")
        left = 0
        for image in images:
            row.paste(image, (left, 0))
            left += image.width
        return row


def follow_records(trainer: Trainer, records: RecordWriter, processes: int) -> None:
    """Have a trainer go on in its records where it goes on, and log tables of them if it reports to a tracker."""
    trainer.add_callback(RecordsCallback(records, processes))
    if {"wandb", "trackio", "tensorboard"} & set(trainer.args.report_to or ()):
        tables = SampleTables(records.folder.parent, trainer.callback_handler)
        records.tell(tables.see)
        trainer.add_callback(tables)


def to_wandb(rows: Sequence[Cells], step: int) -> None:
    """Log a ``wandb.Table``."""
    wandb = import_module("wandb")
    data = [[wandb.Image(cell) if isinstance(cell, Image.Image) else cell for cell in row] for row in rows]
    table = wandb.Table(columns=list(COLUMNS), data=data)
    wandb.log({NAME: table, "train/global_step": step})


def to_trackio(rows: Sequence[Cells], step: int) -> None:
    """Log a ``trackio.Table``."""
    import pandas

    trackio = import_module("trackio")
    data = [[trackio.Image(cell) if isinstance(cell, Image.Image) else cell for cell in row] for row in rows]
    trackio.log({NAME: trackio.Table(dataframe=pandas.DataFrame(data, columns=list(COLUMNS)))}, step=step)


def to_tensorboard(writer: Any, rows: Sequence[Cells], step: int) -> None:
    """Log a table of text, and the image of each question."""
    import numpy as np

    shown = [place for place, name in enumerate(COLUMNS) if name != "image"]
    lines = [[COLUMNS[place] for place in shown], ["---"] * len(shown)]
    lines += [[_cell(row[place]) for place in shown] for row in rows]
    writer.add_text(NAME, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
    # The rollouts of a group share one image.
    images = {id(cell): cell for row in rows for cell in row if isinstance(cell, Image.Image)}
    for number, image in enumerate(images.values()):
        writer.add_image(f"{NAME}/{number}", np.asarray(image), step, dataformats="HWC")


def _cell(value: object) -> str:
    """Return a cell of a Markdown table: what a model wrote stays text, on one line."""
    return "" if value is None else html.escape(str(value)).replace("|", "&#124;").replace("\n", "<br>")
