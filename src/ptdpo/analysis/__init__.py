"""What runs and start models show: one module per analysis, each a table, a plot, and one sentence."""

from collections.abc import Callable, Mapping, Sequence

from ptdpo.analysis.asked import OfRecipe
from ptdpo.analysis.contexts import contexts
from ptdpo.analysis.divergence import divergence
from ptdpo.analysis.entropy import entropy
from ptdpo.analysis.gap import gap
from ptdpo.analysis.groups import groups
from ptdpo.analysis.memory import memory
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
# Those of a recipe: by sampling from its start model, by small trainings, or by counting.
OF_RECIPE: Mapping[str, Callable[[OfRecipe], Analysis]] = {
    "contexts": lambda asked: contexts(asked.sampler()),
    "recovery": lambda asked: recovery(asked.sampler()),
    "support": lambda asked: support(asked.sampler()),
    "gap": gap,
    "divergence": divergence,
    "memory": memory,
}

__all__ = ["ANALYSES", "OF_RECIPE", "Analysis", "Draws", "OfRecipe", "Sampler"]
