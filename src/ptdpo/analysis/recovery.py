"""Recovery (Figure 5): how often questions that always fail are answered under each context."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ptdpo.analysis.result import Analysis, Cell, mean, plots, plotted, said
from ptdpo.analysis.sampling import QUESTION, SAMPLED, Sampler
from ptdpo.data.contexts import Row
from ptdpo.statistics import pass_at_k, powers_of_two


def recovery(sampler: Sampler) -> Analysis:
    """Return pass@n under each context on the questions none of whose n responses is right without any, and on all.

    A failing question is recovered in part if some of its responses are right under a context, wholly if all are.

    Raises:
        ValueError: if every question is answered at least once.
    """
    failing = [row for row in sampler.rows if not any(_right(sampler, row, QUESTION) or [True])]
    if not failing:
        raise ValueError(f"each of {len(sampler.rows)} questions was answered at least once: none is to be recovered")
    figure, (failed, parts, every) = plots(3)
    rows: list[list[Cell]] = []
    for context in SAMPLED:
        found = _found(sampler, failing, context)
        if not found:
            continue
        ks, curve = _curve(found)
        _, of_all = _curve(_found(sampler, sampler.rows, context))
        wholly = sum(all(right) for right in found)
        in_part = sum(any(right) for right in found) - wholly
        rows.append([context, len(found), curve[0], curve[-1], in_part, wholly, of_all[0], of_all[-1]])
        failed.plot(ks, plotted(curve), "o-", label=context)
        every.plot(ks, plotted(of_all), "o-", label=context)
    _bars(parts, rows)
    ticks = powers_of_two(sampler.samples)
    failed.set(xlabel="n", ylabel="pass@n on questions that always fail", ylim=(-0.02, 1.02), xticks=ticks)
    every.set(xlabel="n", ylabel="pass@n on all questions", ylim=(-0.02, 1.02), xticks=ticks)
    for axes in (failed, parts, every):
        axes.legend(frameon=False, fontsize=8)
    n = sampler.samples
    sentences = [
        f"{context} {said(whole)} (pass@1 {said(one)}; {wholly} wholly)"
        for context, _, one, whole, _, wholly, *_ in rows
        if context != QUESTION
    ]
    sentence = (
        f"{len(failing)} of {len(sampler.rows)} questions fail {n} times without a context; pass@{n} under a context: "
        + (", ".join(sentences) or "no context is there")
        + "."
    )
    columns = (
        "context", "questions", "pass@1", f"pass@{n}", "recovered in part", "recovered wholly", "pass@1, all questions",
        f"pass@{n}, all questions",
    )  # fmt: skip
    return Analysis("recovery", sentence, columns, rows, figure)


def _curve(found: Sequence[Sequence[bool]]) -> tuple[list[int], list[float | None]]:
    samples = len(found[0])
    ks = powers_of_two(samples)
    return ks, [mean([pass_at_k(right=sum(right), samples=samples, k=k) for right in found]) for k in ks]


def _bars(axes: Axes, rows: Sequence[Sequence[Cell]]) -> None:
    """Draw what share of the failing questions each context recovers, in part and wholly."""
    names = [str(row[0]) for row in rows]
    questions, some, every = (plotted([row[place] for row in rows]) for place in (1, 4, 5))
    shares = [[count / of for count, of in zip(counts, questions, strict=True)] for counts in (some, every)]
    axes.bar(names, shares[0], 0.6, label="some responses right")
    axes.bar(names, shares[1], 0.6, bottom=shares[0], label="all responses right")
    axes.set(ylabel="share of questions that always fail", ylim=(0, 1.02))


def _found(sampler: Sampler, rows: Sequence[Row], context: str) -> list[list[bool]]:
    return [right for row in rows if (right := _right(sampler, row, context)) is not None]


def _right(sampler: Sampler, row: Row, context: str) -> list[bool] | None:
    drawn = sampler.draw(row, context)
    return None if drawn is None else list(drawn.right)
