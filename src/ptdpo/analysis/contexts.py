"""What a context does to the teacher along failed rollouts (Figure 3): NLL, full KL from question-only, length."""

from dataclasses import dataclass, field

from ptdpo.analysis.result import Analysis, mean, plot, said
from ptdpo.analysis.sampling import QUESTION, SAMPLED, Sampler
from ptdpo.data.contexts import Row


@dataclass
class _Sums:
    """Of one context: per token along failed rollouts, and lengths of its own responses."""

    nll: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def contexts(sampler: Sampler, rollouts: int = 2) -> Analysis:
    """Return, under each context, the change of NLL of failed rollouts, KL(context || question) and response length.

    Args:
        sampler: draws and scores.
        rollouts: at most so many failed rollouts of each question are read.

    Raises:
        ValueError: if no rollout failed.
    """
    sums = {context: _Sums() for context in SAMPLED}
    for row in sampler.rows:
        for context in SAMPLED:
            drawn = sampler.draw(row, context)
            if drawn is not None:
                sums[context].lengths += drawn.tokens
        plain = sampler.draw(row, QUESTION)
        assert plain is not None
        failed = [text for text, right in zip(plain.texts, plain.right, strict=True) if not right and text]
        for text in failed[:rollouts]:
            _read(sampler, row, sampler.ids(text), sums)
    if not sums[QUESTION].nll:
        raise ValueError("no rollout failed: there is nothing for a teacher to read")
    base = mean(sums[QUESTION].nll) or 0.0
    rows, figure_rows = [], []
    for context, own in sums.items():
        if own.nll:
            change = (mean(own.nll) or 0.0) - base
            rows.append([context, len(own.nll), change, mean(own.kl), mean([float(n) for n in own.lengths])])
            figure_rows.append((context, change, mean(own.kl)))
    figure, axes = plot()
    places = range(len(figure_rows))
    axes.bar([place - 0.2 for place in places], [each[1] for each in figure_rows], 0.4, label="change of NLL")
    axes.bar([place + 0.2 for place in places], [each[2] for each in figure_rows], 0.4, label="KL from question only")
    axes.set_xticks(list(places), [each[0] for each in figure_rows])
    axes.set_ylabel("nats per token of failed rollouts")
    axes.legend(frameon=False)
    said_rows = [f"{name}: NLL {change:+.3f}, KL {said(kl)}" for name, change, kl in figure_rows if name != QUESTION]
    sentence = "Along failed rollouts, against the question alone, in nats per token: " + "; ".join(said_rows) + "."
    columns = ["context", "tokens", "change of NLL", "KL from question", "response length"]
    return Analysis("contexts", sentence, columns, rows, figure)


def _read(sampler: Sampler, row: Row, ids: list[int], sums: dict[str, _Sums]) -> None:
    plain = sampler.distributions(row, QUESTION, ids)
    assert plain is not None
    for context in SAMPLED:
        log_probs = plain if context == QUESTION else sampler.distributions(row, context, ids)
        if log_probs is None:
            continue
        sums[context].nll += [-log_probs[place, one].item() for place, one in enumerate(ids)]
        sums[context].kl += (log_probs.exp() * (log_probs - plain)).sum(dim=1).tolist()
