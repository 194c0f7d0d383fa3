"""What the nine splits of PAPO_eval have in common."""

from ptdpo.evaluate.benchmark import Benchmark, Group, Hub
from ptdpo.evaluate.rows import MESSAGES

REPOSITORY = "PAPO-Galaxy/PAPO_eval"


def papo_split(
    name: str, title: str, group: Group, column: int, split: str, rows: int, archive: str | None = None
) -> Benchmark:
    """Declare a split: prompts are in the rows, images in one zip file per split, every row is asked.

    Free-form questions of MathVista and MathVerse were filtered out before the splits were published.
    """
    source = Hub(REPOSITORY, split, archive or f"{split}_images.zip")
    return Benchmark(name, title, group, source, rows, MESSAGES, instruction=None, column=column)
