"""How many problems a recipe trains on, without loading them."""

from pathlib import Path

from ptdpo.config import Recipe
from ptdpo.data.load import source_of
from ptdpo.data.scan import count_rows

# Rows of public data sets, as their pages say.
_PUBLISHED = {("PAPOGalaxy/PAPO_ViRL39K_train", "train"): 38_870}


def problems_of(recipe: Recipe) -> int | None:
    """Return how many rows a recipe's data has; ``None`` if that is not known here.

    Rows that will be dropped count too.
    """
    data = recipe.data
    source = source_of(data)
    if source == "hub":
        known = _PUBLISHED.get((data.path, data.split))
    else:
        known = count_rows(data.path) if source != "easy-vqa" and Path(data.path).exists() else None
    return known if known is None or data.limit is None else min(known, data.limit)
