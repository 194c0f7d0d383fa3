"""What runs and start models show: one module per analysis, each a table, a plot, and one sentence."""

from collections.abc import Callable, Mapping, Sequence

from ptdpo.analysis.contexts import contexts
from ptdpo.analysis.entropy import entropy
from ptdpo.analysis.groups import groups
from ptdpo.analysis.overlap import overlap
from ptdpo.analysis.recovery import recovery
from ptdpo.analysis.result import Analysis
from ptdpo.analysis.sampling import Draws, Sampler
from ptdpo.analysis.support import support
from ptdpo.report.run_view import RunView

# By the name that `ptdpo analyze` takes.
ANALYSES: Mapping[str, Callable[[Sequence[RunView]], Analysis]] = {
    "groups": groups,
    "entropy": entropy,
    "overlap": overlap,
}
# Those that sample from the start model of a recipe.
SAMPLED: Mapping[str, Callable[[Sampler], Analysis]] = {"contexts": contexts, "recovery": recovery, "support": support}

__all__ = ["ANALYSES", "SAMPLED", "Analysis", "Draws", "Sampler"]
