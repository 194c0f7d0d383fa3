"""What runs and start models show: one module per analysis, each a table, a plot, and one sentence.

Those of records are here; those of a recipe, which need a model, in ``ptdpo.analysis.of_recipe``.
"""

from collections.abc import Callable, Mapping, Sequence

from ptdpo.analysis.entropy import entropy
from ptdpo.analysis.groups import groups
from ptdpo.analysis.overlap import overlap
from ptdpo.analysis.result import Analysis
from ptdpo.report.run_view import RunView

# By the name that `ptdpo analyze` takes.
ANALYSES: Mapping[str, Callable[[Sequence[RunView]], Analysis]] = {
    "groups": groups,
    "entropy": entropy,
    "overlap": overlap,
}

__all__ = ["ANALYSES", "Analysis"]
