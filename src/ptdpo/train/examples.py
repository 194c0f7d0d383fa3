"""Tutored rollouts of a run, token by token, for pages: where did the teacher pull hardest?"""

import json
from pathlib import Path

from ptdpo.records import TutoredExample
from ptdpo.runlog import read_records

# Of runs before there were records.
EXAMPLES_FILE = "tutored_examples.jsonl"


def read_examples(folder: str | Path) -> list[TutoredExample]:
    """Return of each step the kept rollout furthest from its teacher; none if the run tutored or kept nothing."""
    path = Path(folder) / EXAMPLES_FILE
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [TutoredExample(r["step"], r["id"], tuple(r["tokens"]), tuple(r["divergence"])) for r in rows]
    records = read_records(folder)
    furthest: dict[int, TutoredExample] = {}
    for (sampled, group, _), line in records.tokens.items():
        if not line.divergence or (sampled, group) not in records.groups:
            continue
        tokens = tuple(line.texts.get(str(one), "") for one in line.ids)
        example = TutoredExample(line.step, records.groups[sampled, group].id, tokens, tuple(line.divergence))
        if line.step not in furthest or _mean(example) > _mean(furthest[line.step]):
            furthest[line.step] = example
    return [furthest[step] for step in sorted(furthest)]


def _mean(example: TutoredExample) -> float:
    return sum(example.divergence) / len(example.divergence)
