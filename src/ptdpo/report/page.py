"""One self-contained HTML page per comparison of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ptdpo.data.images import image_url
from ptdpo.data.prompts import interleave_images, placed_text
from ptdpo.records import Hint, Problem, TutoredExample
from ptdpo.report.curves import Curve, Rows, group_chart, line_chart

CURVES = (
    Curve("accuracy", "accuracy of rollouts"),
    Curve("entropy", "entropy (nats)"),
    Curve("kl", "KL to the reference"),
    Curve("divergence", "divergence to the teacher on tutored tokens (nats)"),
    Curve("completions/mean_length", "response length (tokens)"),
    Curve("grad_norm", "gradient norm"),
)


@dataclass(frozen=True, slots=True)
class ShownExample:
    """A tutored rollout with everything a reader needs to judge it."""

    problem: Problem
    hint: Hint | None
    example: TutoredExample


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a page.

    Attributes:
        title: heading.
        intro: one paragraph.
        columns: header of the table.
        rows: cells of the table, as text.
        runs: metrics by run name.
        examples: tutored rollouts.
    """

    title: str
    intro: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    runs: Mapping[str, Rows]
    examples: Sequence[ShownExample]


def render(page: Page) -> str:
    """Return the page as HTML; everything from a model or a data set is escaped."""
    environment = Environment(
        loader=PackageLoader("ptdpo.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    charts = [line_chart(page.runs, curve) for curve in CURVES if _is_logged(page.runs, curve.key)]
    groups = [group_chart(name, rows) for name, rows in page.runs.items() if rows]
    return environment.get_template("page.html.j2").render(
        page=page, charts=charts + groups, examples=[_shown(example) for example in page.examples]
    )


def _is_logged(runs: Mapping[str, Rows], key: str) -> bool:
    return any(key in row for rows in runs.values() for row in rows)


def _question_parts(problem: Problem) -> list[dict[str, str]]:
    """Return texts and images, as data URLs, in the order in which a model reads them."""
    mixed = interleave_images(placed_text(problem.problem), [Path(path) for path in problem.images])
    return [{"text": part} if isinstance(part, str) else {"image": image_url(part)} for part in mixed]


def _shown(shown: ShownExample) -> dict[str, Any]:
    strongest = max(shown.example.divergence, default=0.0) or 1.0
    return {
        "problem": shown.problem,
        "question": _question_parts(shown.problem),
        "hint": shown.hint,
        "step": shown.example.step,
        "tokens": [
            {"text": token, "nats": nats, "alpha": round(nats / strongest, 3)}
            for token, nats in zip(shown.example.tokens, shown.example.divergence, strict=True)
        ],
    }
