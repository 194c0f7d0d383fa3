"""One self-contained HTML page per comparison of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ptdpo.data.images import image_url
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


def _shown(shown: ShownExample) -> dict[str, Any]:
    strongest = max(shown.example.divergence, default=0.0) or 1.0
    return {
        "problem": shown.problem,
        "hint": shown.hint,
        "step": shown.example.step,
        "images": [image_url(path) for path in shown.problem.images],
        "tokens": [
            {"text": token, "nats": nats, "alpha": round(nats / strongest, 3)}
            for token, nats in zip(shown.example.tokens, shown.example.divergence, strict=True)
        ],
    }
