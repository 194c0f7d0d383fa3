"""Rows from which an optimiser step learns nothing are not read: neither forwards nor backwards.

A row whose advantage is exactly 0 and that no teacher read adds exactly nothing to the gradient where the loss is a sum
over rows: without a KL, entropy and perception term, and without a mixture's balance, which look at every row. What
divides the sum is what it was: a mean over rows is over all of them, a count of tokens is that of all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.batches import records_of
from ptdpo.train.trl.token_batches import TokenBudget, select_rows
from ptdpo.tutor.processes import Processes

Part = tuple[dict[str, Any], float]


def refuse_unequal_skipping(args: PTDConfig, model: torch.nn.Module, *, has_aux_loss: bool) -> None:
    """Refuse to skip rows of a model with which the gradient would be another.

    Raises:
        ValueError: naming what it is.
    """
    if not args.skip_idle_rows:
        return
    if has_aux_loss:
        raise ValueError(
            "skip_idle_rows=True: the load-balancing loss of experts looks at every row; set router_aux_loss_coef=0, "
            "or skip_idle_rows=false"
        )
    config: Any = model.config
    layers = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Dropout) and layer.p > 0]
    text = config.get_text_config()
    if layers or getattr(text, "attention_dropout", 0.0):
        raise ValueError(
            f"skip_idle_rows=True: the model has dropout ({layers[0] if layers else 'attention_dropout'}), whose "
            "random numbers depend on the rows that are read; set it to 0, or skip_idle_rows=false"
        )


def rows_to_read(columns: Mapping[str, Any]) -> list[int]:
    """Return the rows of a micro-batch that are learnt from, or whose tokens are kept in the run's records."""
    advantages = columns["advantages"]
    learnt = (advantages != 0).flatten(1).any(dim=1) if advantages.ndim > 1 else advantages != 0
    rows = {int(row) for row in learnt.nonzero().flatten()}
    records = records_of(columns)
    rows |= {row for row, record in enumerate(records) if record.reading.tokens or record.kept is not None}
    return sorted(rows)


@dataclass(frozen=True, slots=True)
class MicroBatchParts:
    """In which parts a micro-batch is read, and which rows of it are not.

    Attributes:
        budget: tokens of a part; ``None``: one part.
        skips: rows from which nothing is learnt are left out.
        by_rows: the loss is a mean over rows; else it divides by the tokens of the whole step itself.
        processes: those that read at the same time, in equally many parts.
    """

    budget: TokenBudget | None
    skips: bool
    by_rows: bool
    processes: Processes

    def of(self, columns: dict[str, Any], log: Callable[[str, float], None]) -> list[Part]:
        """Return the parts of a micro-batch with the share of each; a collective call.

        A process with nothing to learn reads its shortest row with share 0: the others wait for its part.

        Args:
            columns: the micro-batch.
            log: gets the share of all processes' rows that is left out, as ``rows/idle``.
        """
        if not self.skips:
            assert self.budget is not None
            return self.budget.parts(columns, by_rows=self.by_rows)
        total, rows = len(columns["advantages"]), rows_to_read(columns)
        share = len(rows) / total if self.by_rows or not rows else 1.0
        read = select_rows(columns, rows or [int(columns["completion_mask"].sum(dim=1).argmin())])
        parts = [(read, 1.0)] if self.budget is None else self.budget.parts(read, by_rows=self.by_rows)
        counts = torch.tensor([total - len(rows), total], device=self.processes.device)
        left_out, every = self.processes.sum(counts).tolist()
        log("rows/idle", left_out / every)
        return [(part, own * share) for part, own in parts]


def parts_of_micro_batches(args: PTDConfig, processes: Processes, *, shared: bool) -> MicroBatchParts | None:
    """Return how a trainer's micro-batches are read; ``None``: as they are.

    Args:
        args: its settings.
        processes: that train.
        shared: the rows of a group share their prompt.
    """
    tokens = args.micro_batch_tokens
    if tokens is None and not args.skip_idle_rows:
        return None
    budget = None if tokens is None else TokenBudget(tokens, shared, processes)
    return MicroBatchParts(budget, args.skip_idle_rows, args.loss_type != "dapo", processes)
