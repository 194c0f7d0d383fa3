"""The report of one or more runs: one self-contained page."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ptdpo.report.diagnosis import diagnose
from ptdpo.report.run_view import CURVES, GROUPS, SECONDS, TABLE, RunView, curves_of, table_of, throughput_of
from ptdpo.report.viewer_data import IMAGE_BUDGET, TEXT_BUDGET, viewer_data

SCRIPTS = ("core.js", "charts.js", "tables.js", "viewer.js", "start.js")


def run_page(runs: Sequence[RunView], title: str, *, budget: int = TEXT_BUDGET, images: int = IMAGE_BUDGET) -> str:
    """Return the report as HTML.

    Everything that comes from a run lies in one block of JSON that ends no element, and is shown as text; the only
    script that may run is the page's own, whose hash its policy names.

    Args:
        runs: at least one.
        title: heading.
        budget: characters that rollouts may take, of all runs.
        images: characters that images may take.
    """
    content = {
        "title": title,
        "curves": CURVES,
        "groups": GROUPS,
        "parts": SECONDS,
        "columns": ["run", "steps", *(name for _, name, _, _ in TABLE)],
        "runs": [
            {
                "name": run.name,
                "steps": run.steps,
                "finished": run.finished,
                "settings": run.settings,
                "metrics": curves_of(run),
                "cells": table_of(run),
                "throughput": throughput_of(run),
                "findings": [asdict(finding) for finding in diagnose(run)],
            }
            for run in runs
        ],
        "viewer": viewer_data(runs, budget, images).as_json(),
    }
    templates = resources.files("ptdpo.report") / "templates"
    script = "".join((templates / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(loader=PackageLoader("ptdpo.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("run.html.j2").render(
        title=title,
        style=Markup((templates / "run.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=digest,
        data=Markup(_for_script(content)),
    )


def _for_script(data: object) -> str:
    """Return JSON without "<", ">" and "&", which could end the element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")
