"""Evaluate a model on a problems file: responses written as they come, and a summary."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import track

from ptdpo.data.checks import find_bad_rows, keep_good
from ptdpo.data.files import read_problems
from ptdpo.evaluate.scoring import (
    SamplingSettings,
    ScoredResponse,
    accuracy_by_source,
    mean_accuracy,
    score_problems,
)
from ptdpo.models import load_model, load_processor


@dataclass(frozen=True, slots=True)
class Summary:
    """Accuracy of a model on a problems file."""

    responses: int
    accuracy: float
    format: float
    by_source: dict[str, float]

    def rows(self) -> list[tuple[str, str]]:
        """Return the cells to print."""
        sources = [(f"accuracy, {name}", f"{value:.4f}") for name, value in self.by_source.items()]
        return [
            ("responses", str(self.responses)),
            ("accuracy", f"{self.accuracy:.4f}"),
            ("format", f"{self.format:.4f}"),
            *(sources if len(sources) > 1 else []),
        ]


def evaluate_file(
    model_path: str,
    problems_path: Path,
    out: Path,
    settings: SamplingSettings,
    instruction: str | None = None,
) -> Summary:
    """Sample and grade responses to every problem of a file; write them to ``out`` as they come.

    Raises:
        ValueError: if a problem cannot be used; lists the ids.
    """
    if instruction is not None:
        settings = replace(settings, instruction=instruction)
    checked = find_bad_rows(read_problems(problems_path))
    problems, _ = keep_good(checked, "refuse", str(problems_path))
    model, processor = load_model(model_path), load_processor(model_path)
    scored: list[ScoredResponse] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as lines:
        responses = score_problems(model, processor, problems, settings)
        for response in track(responses, "evaluating", total=len(problems) * settings.samples):
            scored.append(response)
            lines.write(json.dumps(_line(response), ensure_ascii=False) + "\n")
    formatted = sum(s.verdict.format for s in scored) / len(scored)
    return Summary(len(scored), mean_accuracy(scored), formatted, accuracy_by_source(scored))


def _line(scored: ScoredResponse) -> dict[str, object]:
    return {
        "id": scored.problem.id,
        "sample": scored.sample,
        "response": scored.response,
        "extracted": scored.verdict.extracted,
        "accuracy": scored.verdict.accuracy,
        "format": scored.verdict.format,
    }
