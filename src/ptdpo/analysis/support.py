"""How far the Top-K divergence is from that over the whole vocabulary, over K, on the states of failed rollouts."""

from collections.abc import Sequence

from ptdpo.algo.divergence import full_divergence, topk_agreement, topk_divergence
from ptdpo.analysis.overlap import KINDS, kind_of
from ptdpo.analysis.result import Analysis, mean, plot, said
from ptdpo.analysis.sampling import QUESTION, Sampler

SIZES = (1, 5, 10, 20, 50, 100, 200)
# Below this a difference of two JSDs in single precision is rounding, and may be negative.
SMALLEST = 1e-8


def support(sampler: Sampler, context: str = "hint", rollouts: int = 2) -> Analysis:
    """Return, for each K and kind of token, overlap, tails, and the error of the Top-K against the full JSD.

    Args:
        sampler: draws and scores; its model is student and teacher, as at the first step.
        context: what the teacher is shown.
        rollouts: at most so many failed rollouts of each question are read.

    Raises:
        ValueError: if no rollout failed where there is such a context.
    """
    found: dict[tuple[int, str], list[tuple[float, float, float, float, float]]] = {}
    for row in sampler.rows:
        plain = sampler.draw(row, QUESTION)
        assert plain is not None
        failed = [text for text, right in zip(plain.texts, plain.right, strict=True) if not right and text]
        for text in failed[:rollouts]:
            ids = sampler.ids(text)
            student, teacher = (sampler.distributions(row, one, ids) for one in (QUESTION, context))
            if student is None or teacher is None:
                continue
            full = full_divergence(student, teacher)
            kinds = [kind_of(sampler.text(one)) for one in ids]
            for k in (size for size in SIZES if size <= student.size(1)):
                near, agreed = topk_divergence(student, teacher, k=k), topk_agreement(student, teacher, k=k)
                values = zip(
                    full.tolist(), near.tolist(), agreed.overlap.tolist(), agreed.student_tail.tolist(),
                    agreed.teacher_tail.tolist(), strict=True,
                )  # fmt: skip
                for kind, value in zip(kinds, values, strict=True):
                    found.setdefault((k, kind), []).append(value)
    if not found:
        raise ValueError(f"no rollout failed on a question that has the context {context!r}")
    return _analysis(found)


def _analysis(found: dict[tuple[int, str], list[tuple[float, float, float, float, float]]]) -> Analysis:
    rows: list[Sequence[str | int | float | None]] = []
    figure, axes = plot()
    sizes = sorted({k for k, _ in found})
    errors: dict[str, list[float]] = {}
    for kind in (*KINDS, "all"):
        for k in sizes:
            cells = [values for (size, one), values in found.items() if size == k and kind in (one, "all")]
            own = [value for values in cells for value in values]
            if not own:
                continue
            full, near, overlap, student, teacher = (mean([value[n] for value in own]) or 0.0 for n in range(5))
            error = (full - near) / full if full else 0.0
            rows.append([kind, k, len(own), overlap, student, teacher, full, near, error])
            errors.setdefault(kind, []).append(error)
    for kind, values in errors.items():
        axes.plot(sizes, [max(value, SMALLEST) for value in values], "o-", label=kind)
    axes.set(xlabel="K", ylabel="share of the full JSD that is lost", xscale="log", yscale="log")
    axes.set_xticks(sizes, [str(k) for k in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    lost = [f"{100 * max(value, SMALLEST):.2g} % at K={k}" for k, value in zip(sizes, errors["all"], strict=True)]
    full = said(rows[-1][6], 5)
    sentence = f"Of the full JSD, {full} nats in the mean, the Top-K loses {', '.join(lost)}."
    columns = ["kind", "K", "tokens", "overlap", "student tail", "teacher tail", "full JSD", "Top-K JSD", "lost"]
    return Analysis("support", sentence, columns, rows, figure)
