"""A few tutored rollouts of a run, token by token, for reports: where did the teacher pull hardest?"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ptdpo.folders import append_line
from ptdpo.records import TutoredExample
from ptdpo.tutor.teacher import Reading

EXAMPLES_FILE = "tutored_examples.jsonl"


def pick_example(
    step: int,
    readings: Sequence[Reading],
    response_ids: Tensor,
    tutored: Tensor,
    divergence: Tensor,
    token: Callable[[int], str],
) -> TutoredExample | None:
    """Return the rollout of a micro-batch that is furthest from its teacher, or ``None`` if none is tutored.

    Args:
        step: the optimiser step.
        readings: one per row.
        response_ids: [B, T].
        tutored: [B, T] bool, the tokens that the teacher read.
        divergence: [n], the tutored positions row by row.
        token: decodes one.
    """
    sizes = [reading.tokens for reading in readings]
    parts = divergence.detach().cpu().split(sizes)
    read = [row for row, size in enumerate(sizes) if size]
    if not read:
        return None
    row = max(read, key=lambda r: parts[r].mean().item())
    ids = response_ids[row, tutored[row]].tolist()
    return TutoredExample(step, readings[row].problem_id, tuple(token(i) for i in ids), tuple(parts[row].tolist()))


def append_example(folder: str | Path, example: TutoredExample) -> None:
    """Append one line to the examples file of a run."""
    line = {
        "step": example.step,
        "id": example.problem_id,
        "tokens": list(example.tokens),
        "divergence": [round(d, 6) for d in example.divergence],
    }
    append_line(Path(folder) / EXAMPLES_FILE, json.dumps(line, ensure_ascii=False))


def read_examples(folder: str | Path) -> list[TutoredExample]:
    """Read the examples of a run; none if it wrote none."""
    path = Path(folder) / EXAMPLES_FILE
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [TutoredExample(r["step"], r["id"], tuple(r["tokens"]), tuple(r["divergence"])) for r in rows]
