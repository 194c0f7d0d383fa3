"""Entropy of tutored and untutored groups over training, from the recorded tokens."""

from collections.abc import Sequence

from ptdpo.analysis.result import Analysis, mean, plot, said, unread
from ptdpo.report.curves import COLOURS
from ptdpo.report.run_view import RunView
from ptdpo.runlog import RunRecords

WINDOWS = 10


def entropy(runs: Sequence[RunView]) -> Analysis:
    """Return the mean entropy per token of groups with and without a tutored rollout, at both ends of each run.

    Raises:
        ValueError: if a run recorded no tokens.
    """
    figure, axes = plot()
    rows, sentences = [], []
    for number, run in enumerate(runs):
        windows = _windows(run.records)
        if not windows:
            raise ValueError(
                f"{run.name}: has no recorded tokens; records are kept with record_tokens above 0{unread(run)}"
            )
        for tutored, name in ((True, "tutored"), (False, "untutored")):
            points = [(step, mean(parts[tutored])) for step, parts in windows]
            points = [(step, value) for step, value in points if value is not None]
            if not points:
                continue
            count = sum(len(parts[tutored]) for _, parts in windows)
            rows.append([run.name, name, count, points[0][1], points[-1][1]])
            sentences.append(f"{run.name}, {name} groups: {said(points[0][1])} to {said(points[-1][1])} nats")
            line = "-" if tutored else "--"
            label = f"{run.name}, {name}"
            axes.plot(*zip(*points, strict=True), line, color=COLOURS[number % len(COLOURS)], label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("entropy per token, nats")
    axes.legend(frameon=False, fontsize=8)
    columns = ["run", "groups", "tokens", "entropy first", "entropy last"]
    return Analysis("entropy", "; ".join(sentences) + ".", columns, rows, figure)


def _windows(records: RunRecords) -> list[tuple[float, dict[bool, list[float]]]]:
    """Return, for windows over the steps, their middle and the entropies of tutored and of other groups."""
    tutored = {key for key, group in records.groups.items() if any(one.tutored for one in group.rollouts)}
    steps = sorted({line.step for line in records.tokens.values()})
    size = max(1, -(-len(steps) // WINDOWS))
    parts = [steps[start : start + size] for start in range(0, len(steps), size)]
    window_of = {step: number for number, part in enumerate(parts) for step in part}
    found: list[dict[bool, list[float]]] = [{True: [], False: []} for _ in parts]
    for line in records.tokens.values():
        found[window_of[line.step]][(line.sampled, line.group) in tutored].extend(line.entropy)
    return [((part[0] + part[-1]) / 2, values) for part, values in zip(parts, found, strict=True)]
