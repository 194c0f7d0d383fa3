"""Recovery (Figure 5): how often questions that always fail are answered under each context."""

from ptdpo.analysis.result import Analysis, mean, plot, plotted, said
from ptdpo.analysis.sampling import QUESTION, SAMPLED, Sampler
from ptdpo.data.contexts import Row
from ptdpo.statistics import pass_at_k, powers_of_two


def recovery(sampler: Sampler) -> Analysis:
    """Return pass@1 and pass@n under each context on the questions none of whose n responses is right without any.

    Raises:
        ValueError: if every question is answered at least once.
    """
    failing = [row for row in sampler.rows if not any(_right(sampler, row, QUESTION) or [True])]
    if not failing:
        raise ValueError(f"each of {len(sampler.rows)} questions was answered at least once: none is to be recovered")
    figure, axes = plot()
    rows, sentences = [], []
    for context in SAMPLED:
        found = [right for row in failing if (right := _right(sampler, row, context)) is not None]
        if not found:
            continue
        samples = len(found[0])
        ks = powers_of_two(samples)
        curve = [mean([pass_at_k(right=sum(right), samples=samples, k=k) for right in found]) for k in ks]
        rows.append([context, len(found), curve[0], curve[-1], sum(any(right) for right in found)])
        axes.plot(ks, plotted(curve), "o-", label=context)
        if context != QUESTION:
            sentences.append(f"{context} {said(curve[-1])} (pass@1 {said(curve[0])})")
    axes.set_xlabel("n")
    axes.set_ylabel("pass@n on questions that always fail")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False)
    n = sampler.samples
    sentence = (
        f"{len(failing)} of {len(sampler.rows)} questions fail {n} times without a context; pass@{n} under a context: "
        + (", ".join(sentences) or "no context is there")
        + "."
    )
    columns = ["context", "questions", "pass@1", f"pass@{n}", "recovered questions"]
    return Analysis("recovery", sentence, columns, rows, figure)


def _right(sampler: Sampler, row: Row, context: str) -> list[bool] | None:
    drawn = sampler.draw(row, context)
    return None if drawn is None else list(drawn.right)
