"""HDPO: where a whole group fails, responses drawn under the teacher's context take its place, if they are right."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ptdpo.train.engine import Engine, RolloutBatch
from ptdpo.tutor.context import Shown, images_of


def draw_privileged(
    engine: Engine, batch: RolloutBatch, contexts: Sequence[Shown | None], chosen: Tensor
) -> dict[int, list[int]]:
    """Return right responses that the policy's weights drew under the context, by the row whose place they take.

    The student is then scored on them without the context, and tutored there. They were not drawn from the policy, so
    their advantage is 0. A row whose new response is wrong keeps its own and is not tutored.

    Args:
        engine: samples and grades.
        batch: the rollouts; every process holds whole groups.
        contexts: what the teacher reads for each.
        chosen: [rows] bool, the rows of whole groups that all fail.
    """
    generations, processes = batch.groups.generations, engine.processes
    groups = chosen.view(-1, generations).all(dim=1).nonzero().flatten().tolist()
    most = processes.most(len(groups))
    new: dict[int, list[int]] = {}
    if most:
        # Sampling is a collective call: processes with fewer groups sample some for nothing.
        drawn = [*groups, *[0] * (most - len(groups))]
        places = [group * generations + member for group in drawn for member in range(generations)]
        rows = [batch.rows[place] for place in places]
        shown = [
            contexts[place] or Shown(batch.rows[place]["prompt"], images_of(batch.rows[place])) for place in places
        ]
        asked = [one.asks(row) for one, row in zip(shown, rows, strict=True)]
        rollouts = engine.generate(asked, [one.prompt for one in shown], logged=False)
        right = engine.accuracy(rows, rollouts)
        for number, place in enumerate(places[: len(groups) * generations]):
            if right[number] == 1 and rollouts.response_ids[number]:
                new[place] = rollouts.response_ids[number]
    counts = torch.tensor([len(new), len(batch.rows)], dtype=torch.float32, device=processes.device)
    totals = processes.sum(counts)
    engine.log("tutored/exchanged", (totals[0] / totals[1]).item())
    return new
