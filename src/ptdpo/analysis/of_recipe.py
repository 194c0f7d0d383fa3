"""The analyses of a recipe: by sampling from its start model, by small trainings, or by counting."""

from collections.abc import Callable, Mapping

from ptdpo.analysis.asked import OfRecipe
from ptdpo.analysis.contexts import contexts
from ptdpo.analysis.divergence import divergence
from ptdpo.analysis.gap import gap
from ptdpo.analysis.memory import memory
from ptdpo.analysis.recovery import recovery
from ptdpo.analysis.result import Analysis
from ptdpo.analysis.sampling import Draws, Sampler
from ptdpo.analysis.support import support

# By the name that `ptdpo analyze` takes.
OF_RECIPE: Mapping[str, Callable[[OfRecipe], Analysis]] = {
    "contexts": lambda asked: contexts(asked.sampler()),
    "recovery": lambda asked: recovery(asked.sampler()),
    "support": lambda asked: support(asked.sampler()),
    "gap": gap,
    "divergence": divergence,
    "memory": memory,
}

__all__ = ["OF_RECIPE", "Draws", "OfRecipe", "Sampler"]
