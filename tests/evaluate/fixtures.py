"""Small copies of the public files, in their schema, and an engine that needs no model."""

import io
import zipfile
from pathlib import Path

import datasets
from PIL import Image

from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.settings import ModelSettings
from ptdpo.evaluate.store import GradedResponse, ResponseStore, UngradedResponse

NINE = [name for name, benchmark in BENCHMARKS.items() if benchmark.column]
PROMPT = (
    "<image>{question}\n\nYou first think through the reasoning process as an internal monologue, enclosed within "
    "<think> </think> tags. Then, provide your final answer enclosed within \\boxed{{}}."
)
# As in the public files, some splits have an id column and some have not.
WITHOUT_ID = {"mmk12", "counting"}


def png(colour):
    content = io.BytesIO()
    Image.new("RGB", (28, 28), colour).save(content, format="PNG")
    return content.getvalue()


def rows_of(name, count=4):
    """Rows of a split: a user turn with the whole prompt, an assistant turn with the label, paths of images."""
    split = BENCHMARKS[name].source.split
    rows = []
    for number in range(count):
        row = {
            "messages": [
                {"role": "user", "content": PROMPT.format(question=f"Question {number} of {name}?")},
                {"role": "assistant", "content": "ABCD"[number % 4] if number % 2 else str(number)},
            ],
            "images": [f"./data/images/{split}/{split}_{number}_0.png"],
        }
        if name not in WITHOUT_ID:
            row["id"] = f"{split}_{number}"
        rows.append(row)
    return rows


def write_split(folder, name, rows=None, *, packed=True, embedded=False):
    """Write a split below ``folder`` as a copy of the hub has it; return the folder."""
    source = BENCHMARKS[name].source
    rows = rows_of(name) if rows is None else rows
    pictures = {path: png((40 * n % 255, 90, 120)) for n, path in enumerate(p for row in rows for p in row["images"])}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if embedded:
        rows = [{**row, "images": [{"bytes": pictures[path], "path": None} for path in row["images"]]} for row in rows]
    elif packed:
        with zipfile.ZipFile(folder / source.archive, "w") as archive:
            for path, content in pictures.items():
                archive.writestr(path.removeprefix("./data/images/"), content)
    else:
        for path, content in pictures.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    data = datasets.Dataset.from_list(rows)
    if embedded:
        data = data.cast_column("images", datasets.List(datasets.Image()))
    data.to_parquet(str(folder / "data" / f"{source.split}-00000-of-00001.parquet"))
    return folder


class EchoEngine:
    """Answers from a function of (problem, sample), in batches of two."""

    def __init__(self, write=lambda problem, sample: f"<think>x</think>\\boxed{{{problem.answer}}}", revision="r"):
        self.write = write
        self.asked = []
        self.revision = revision

    def describe(self):
        return ModelSettings("echo", "transformers", self.revision)

    def processor(self):
        return None

    def answer(self, task, keep):
        open_ones = [(p, s) for s in range(task.sampling.samples) for p in task.problems if (p.id, s) not in task.done]
        for start in range(0, len(open_ones), 2):
            batch = open_ones[start : start + 2]
            self.asked += [(p.id, s) for p, s in batch]
            keep([UngradedResponse(p.id, s, self.write(p, s), 5, False) for p, s in batch])


def graded(key, sample=0, accuracy=1.0, extracted="1"):
    return GradedResponse(key, sample, f"\\boxed{{{extracted}}}", extracted, accuracy, 1.0, 3, False)


def kept(folder, rows):
    """Write responses as an evaluation does; return their store."""
    with ResponseStore(folder) as store:
        store.append(rows)
    return store


def lines(path: Path):
    return path.read_text(encoding="utf-8").splitlines()
