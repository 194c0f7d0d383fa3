"""What a context does to the teacher along failed rollouts (Figure 3): NLL, full KL from question-only, length."""

from dataclasses import dataclass, field

from ptdpo.analysis.result import Analysis, mean, plots, plotted, said
from ptdpo.analysis.sampling import QUESTION, SAMPLED, Sampler
from ptdpo.data.contexts import Row


@dataclass
class _Sums:
    """Of one context: per token along the failed rollouts that it was read with, and lengths of its own responses."""

    change: list[float] = field(default_factory=list)
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
    if not sums[QUESTION].change:
        raise ValueError("no rollout failed: there is nothing for a teacher to read")
    rows = [
        (context, len(own.change), mean(own.change), mean(own.kl), mean(own.lengths))
        for context, own in sums.items()
        if own.change
    ]
    figure, (distances, lengths) = plots(2)
    places = range(len(rows))
    for shift, column, label in ((-0.2, 2, "change of NLL"), (0.2, 3, "KL from question only")):
        distances.bar([place + shift for place in places], plotted([row[column] for row in rows]), 0.4, label=label)
    distances.set_ylabel("nats per token of failed rollouts")
    distances.legend(frameon=False)
    lengths.bar(places, plotted([row[4] for row in rows]), 0.6)
    lengths.set_ylabel("tokens of a response drawn under it")
    for axes in (distances, lengths):
        axes.set_xticks(list(places), [row[0] for row in rows])
    said_rows = [
        f"{name}: NLL {change or 0.0:+.3f}, KL {said(kl)}, {said(length, 1)} tokens"
        for name, _, change, kl, length in rows
        if name != QUESTION
    ]
    sentence = (
        "Along failed rollouts, against the question alone, in nats per token, and the length of responses "
        f"({said(rows[0][4], 1)} tokens under the question alone): " + "; ".join(said_rows) + "."
    )
    columns = ["context", "tokens", "change of NLL", "KL from question", "response length"]
    return Analysis("contexts", sentence, columns, rows, figure)


def _read(sampler: Sampler, row: Row, ids: list[int], sums: dict[str, _Sums]) -> None:
    plain = sampler.distributions(row, QUESTION, ids)
    assert plain is not None
    for context in SAMPLED:
        log_probs = plain if context == QUESTION else sampler.distributions(row, context, ids)
        if log_probs is None:
            continue
        # Against the question alone token by token: rows that lack a context do not move it.
        sums[context].change += [(plain[place, one] - log_probs[place, one]).item() for place, one in enumerate(ids)]
        sums[context].kl += (log_probs.exp() * (log_probs - plain)).sum(dim=1).tolist()
