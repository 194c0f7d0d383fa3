"""The whole objective, one response at a time in float64: every loss term of every preset, from its formula.

Nothing here is the package's: a row is read alone, without padding, packing or a fused head, by a double-precision
model of transformers, and a divergence is summed over the vocabulary as the paper writes it.
"""

import math
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from tests.reference.records import Objective, Row, Step, Weights

# What a teacher reads behind the question.
TOLD = {
    "answer": "\n\nThe right answer is:\n{}\n\nNow respond in your own words.",
    "solution": "\n\nThis is a worked solution:\n{}\n\nNow respond in your own words.",
    "feedback": "\n\nThis was said of a failed answer to the question:\n{}\n\nNow respond in your own words.",
    "sibling": "\n\nThis is a right response to the question:\n{}\n\nNow respond in your own words.",
}


def advantages(rewards: Sequence[float], objective: Objective) -> list[float]:
    """A_i = (r_i - mean) / (std + 1e-4), std with n - 1; without the rollout itself in the mean for leave-one-out."""
    n = len(rewards)
    mean = math.fsum(rewards) / n
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (n - 1))
    centred = [r - (math.fsum(rewards) - r) / (n - 1) if objective.leave_one_out else r - mean for r in rewards]
    return [a / (std + 1e-4) if objective.scaled else a for a in centred]


def overlong_penalty(length: int, longest: int, buffer: int) -> float:
    """0 up to L - C tokens, (L - C - length) / C up to L."""
    return min(0.0, (longest - buffer - length) / buffer) if buffer else 0.0


def is_tutored(accuracy: Sequence[float], member: int, select: str) -> bool:
    """(8) with tau = 1, and the other routes."""
    others = [a for n, a in enumerate(accuracy) if n != member]
    return {
        "failed": accuracy[member] == 0,
        "every": True,
        "with_sibling": any(others),
        "failed_with_sibling": accuracy[member] == 0 and any(others),
        "succeeded": accuracy[member] == 1,
        "all_fail_groups": not any(accuracy),
        "none": False,
    }[select]


class Reader:
    """Reads rows with a processor at a temperature."""

    def __init__(self, processor, temperature: float) -> None:
        self._processor, self._temperature = processor, temperature

    def __call__(self, model: torch.nn.Module, text: str, seen, response: Sequence[int]) -> Tensor:
        """Return log pi(. | text, image or images seen, response so far) [t, V] at each token; None: no image."""
        image = list(seen) if isinstance(seen, tuple) else [] if seen is None else [seen]
        parts = [*({"type": "image", "image": one} for one in image), {"type": "text", "text": text}]
        prompt = self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        images = [image] if image else None
        inputs = self._processor(text=[prompt], images=images, return_tensors="pt", add_special_tokens=False)
        told = torch.tensor([response])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], told], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(told)], dim=1)
        if image:
            inputs["pixel_values"] = inputs["pixel_values"].double()
        logits = model(**inputs).logits[0, -1 - len(response) : -1]
        return (logits / self._temperature).log_softmax(dim=-1)

    def without_gradient(self, *given) -> Tensor:
        with torch.no_grad():
            return self(*given)


def teacher_text(row: Row, context: str) -> str:
    """Return what the teacher reads: x^h = [x; h]."""
    if context == "question":
        return row.question.text
    if context == "hints":
        return f"{row.question.text}\n\n{row.hint}"
    if context == "hint":
        return f"{row.question.text}\n\n{row.question.told['hint']}"
    told = row.sibling if context == "sibling" else row.question.told[context]
    return row.question.text + TOLD[context].format(told)


def teacher_sees(row: Row, objective: Objective, other: Image.Image | None = None) -> tuple[Image.Image, ...]:
    """Return the images that the teacher sees, the others of which are the teacher's, or those given."""
    question = row.question
    other = other or question.teacher_image
    if objective.images == "question" and other is question.teacher_image:
        return (question.image,)
    return (question.image, other) if objective.images == "both" else (other,)


def contrast_sees(row: Row, objective: Objective) -> tuple[Image.Image, ...]:
    """Return the images of what the teacher's context is contrasted with."""
    if objective.contrast == "question":
        return (row.question.image,)
    other = row.question.contrast_image if objective.contrast == "images" else None
    return teacher_sees(row, objective, other)


def evidence_of(objective: Objective, row: Row, teacher: torch.nn.Module, read: Reader) -> Tensor:
    """Return [t], log q of the sampled tokens less the log of the mean of q over the contrasts."""
    ids = torch.tensor(row.response).unsqueeze(1)

    def expected(text: str, seen) -> Tensor:
        return read.without_gradient(teacher, text, seen, row.response).gather(1, ids).squeeze(1)

    log_q = expected(teacher_text(row, objective.context), teacher_sees(row, objective))
    against = contrast_sees(row, objective)
    return log_q - (sum(expected(text, against).exp() for text in row.contrasts) / len(row.contrasts)).log()


def evidence_score(objective: Objective, evidence: Tensor) -> float:
    """V-Zero's score of a rollout: the mean of max(e, 0) - gamma max(-e, 0)."""
    return math.fsum(e if e > 0 else objective.evidence_penalty * e for e in evidence.tolist()) / len(evidence)


def evidence_weights(objective: Objective, scores: Sequence[float]) -> list[float]:
    """The weights of a group's rollouts: clip(1 + alpha z, 0, most), z with the deviation of n."""
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    apart = [objective.evidence_gate * (score - mean) / (deviation + 1e-6) for score in scores]
    return [min(max(1.0 + one, 0.0), objective.evidence_most) for one in apart]


def divergence(log_p: Tensor, log_q: Tensor, objective: Objective) -> Tensor:
    """D(p, q) of one token by (13) to (17): p the student, q the teacher, over the support and one tail bucket."""
    p, q = log_p.exp(), log_q.exp()
    if objective.k is not None:
        ids: set[int] = set()
        if objective.support in ("union", "student"):
            ids |= set(p.topk(objective.k).indices.tolist())
        if objective.support in ("union", "teacher"):
            ids |= set(q.topk(objective.k).indices.tolist())
        inside = torch.tensor(sorted(ids))
        outside = torch.ones(len(p), dtype=torch.bool).index_fill(0, inside, False)
        p = torch.cat([p[inside], p[outside].sum().reshape(1)])
        within = q[inside]
        if objective.tail == "student":
            q = torch.cat([within / within.sum(), within.new_zeros(1)])
        else:
            q = torch.cat([within, q[outside].sum().reshape(1)])
    m = (p + q) / 2
    if objective.kind == "jsd":
        return (_kl_terms(p, m) + _kl_terms(q, m)).sum() / 2
    terms = _kl_terms(q, p) if objective.kind == "forward_kl" else _kl_terms(p, q)
    return terms.clamp_max(objective.clip).sum()


def _kl_terms(a: Tensor, b: Tensor) -> Tensor:
    some = a > 0
    return torch.where(some, a * (a.where(some, torch.ones(())).log() - b.where(some, torch.ones(())).log()), 0.0)


def entropy(log_p: Tensor) -> Tensor:
    """H of one token in nats."""
    return -(log_p.exp() * log_p).sum()


def micro_batch(
    objective: Objective, rows: Sequence[Row], weights: Weights, read: Reader, step: Step
) -> dict[str, Tensor]:
    """Return each term's share of the step's loss: they add up to the loss of the micro-batch."""
    values: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    for row in rows:
        for name, terms in _row_terms(objective, row, weights, read, step).items():
            values[name].append(terms)
    shares = {}
    for name, per_row in values.items():
        if not per_row:
            continue
        if name == "tutoring":
            total = sum(terms.sum() for terms in per_row) / (step.compared_tokens + 1e-6) / step.mean_weight
        elif objective.token_mean:
            total = sum(terms.sum() for terms in per_row) / step.mean_tokens
        else:
            total = sum(terms.mean() for terms in per_row) / len(rows) / step.micro_batches
        shares[name] = total
    return shares


def _row_terms(objective: Objective, row: Row, weights: Weights, read: Reader, step: Step) -> dict[str, Tensor]:
    """Return [t] per term, as it is added to the loss."""
    text, image, ids = row.asked or row.question.text, row.question.image, torch.tensor(row.response).unsqueeze(1)
    log_p = read(weights.policy, text, image, row.response)
    chosen = log_p.gather(1, ids).squeeze(1)
    old = read.without_gradient(weights.old, text, image, row.response).gather(1, ids).squeeze(1)
    terms: dict[str, Tensor] = {}
    if objective.policy_gradient:
        kept = objective.rl_on_tutored or not row.tutored
        plain = torch.full_like(chosen, row.advantage if kept else 0.0)
        terms["policy gradient"] = _policy_gradient(objective, plain, chosen - old)
        if objective.credits:
            # Apart from the rest, so that it is seen to matter.
            credit = _credit(objective, row, weights, read, chosen.detach(), step)
            terms["credit"] = _policy_gradient(objective, credit, chosen - old) - terms["policy gradient"]
    if objective.beta and (objective.kl_on_tutored_groups or not row.in_tutored_group):
        reference = read.without_gradient(weights.start, text, image, row.response).gather(1, ids).squeeze(1)
        terms["reference KL"] = objective.beta * ((reference - chosen).exp() - (reference - chosen) - 1)
    if objective.weight and row.tutored and not objective.credits:
        terms["tutoring"] = objective.weight * _tutoring(objective, row, weights.teacher, read, log_p, chosen, old)
    return terms | _perception(objective, row, weights, read, log_p, chosen)


def _policy_gradient(objective: Objective, advantage: Tensor, log_ratio: Tensor) -> Tensor:
    """(3): -min(r A, clip(r) A) with A of each token; GSPO's r is the geometric mean over the response."""
    if objective.sequence_ratio:
        log_ratio = log_ratio.mean().expand_as(log_ratio)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - objective.low, 1 + objective.high)
    return -torch.minimum(ratio.clamp_max(objective.highest) * advantage, clipped * advantage)


def _credit(objective: Objective, row: Row, weights: Weights, read: Reader, chosen: Tensor, step: Step) -> Tensor:
    """Return the advantage of each sampled token where the teacher redistributes that of the response."""
    if not row.tutored:
        return torch.full_like(chosen, row.advantage)
    if objective.contrast == "none":
        text, seen = teacher_text(row, objective.context), teacher_sees(row, objective)
        log_q = read.without_gradient(weights.teacher, text, seen, row.response)
        evidence = log_q.gather(1, torch.tensor(row.response).unsqueeze(1)).squeeze(1) - chosen
    else:
        evidence = evidence_of(objective, row, weights.teacher, read)
    if objective.reweighted is not None:
        # RLSD: A (1 - lambda + lambda clip((q / p)^sign(A), 1 - eps, 1 + eps)).
        sign = ((row.advantage > 0) - (row.advantage < 0)) * (1 if objective.weight > 0 else -1)
        clip, share = objective.reweighted, abs(objective.weight)
        return row.advantage * (1 - share + share * (sign * evidence).exp().clamp(1 - clip, 1 + clip))
    # RLCSD: A + lambda tanh(e / tau) where that is large enough, on A's side of 0.
    moves, found = moves_of(objective, evidence), []
    for move in moves.tolist():
        moved = row.advantage + move
        moved = max(moved, 0.0) if row.advantage > 0 else min(moved, 0.0) if row.advantage < 0 else 0.0
        found.append(moved * (step.moved_scale if move else step.unmoved_scale))
    return torch.tensor(found, dtype=torch.float64)


def moves_of(objective: Objective, evidence: Tensor) -> Tensor:
    """Return [t], lambda tanh(e / tau), and 0 where it is not above delta."""
    moves = objective.weight * (evidence / objective.shift_scale).tanh()
    return torch.where(moves.abs() > objective.shift_least, moves, 0.0)


def _tutoring(
    objective: Objective, row: Row, teacher: torch.nn.Module, read: Reader, log_p: Tensor, chosen: Tensor, old: Tensor
) -> Tensor:
    text = teacher_text(row, objective.context)
    log_q = read.without_gradient(teacher, text, teacher_sees(row, objective), row.response)
    off_policy = torch.ones_like(chosen)
    if objective.ratio_clip is not None:
        off_policy = (chosen.detach() - old).exp().clamp_max(objective.ratio_clip)
    if objective.sampled:
        advantage = log_q.gather(1, torch.tensor(row.response).unsqueeze(1)).squeeze(1) - chosen.detach()
        if objective.bounded:
            advantage = ((1 + advantage.exp()) / 2).log() / 2
        advantage = advantage.clamp(-objective.most_sampled, objective.most_sampled)
        if objective.standardised:
            mean = advantage.mean()
            advantage = (advantage - mean) / ((advantage - mean) ** 2).mean().sqrt().clamp_min(1e-6)
        # Its value is -A, its gradient that of -A log p.
        apart = -advantage * (1 + chosen - chosen.detach())
        return row.weight * off_policy * apart * gate(objective, row, log_p, log_q)
    apart = torch.stack([divergence(p, q, objective) for p, q in zip(log_p, log_q, strict=True)])
    return row.weight * off_policy * apart * gate(objective, row, log_p, log_q)


def gate(objective: Objective, row: Row, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return [t], the weight of each token, without gradient and before normalisation."""
    sampled = torch.tensor(row.response)
    own, theirs = (side.detach()[torch.arange(len(sampled)), sampled] for side in (log_p, log_q))
    if objective.gate == "none":
        return torch.ones_like(own)
    if objective.gate == "agreement":
        return 1 / (1 + (own - theirs).exp() ** objective.sharpness)
    if objective.gate == "position":
        return torch.tensor([math.exp(-objective.sharpness * t / len(own)) for t in range(len(own))])
    side = log_q if objective.gate == "teacher_entropy" else log_p
    weights = []
    for token in side.detach():
        nats = entropy(token).item()
        weight = math.exp(-objective.sharpness * nats)
        weights.append(objective.above * weight if nats > objective.threshold else weight)
    return torch.tensor(weights, dtype=torch.float64)


def _perception(
    objective: Objective, row: Row, weights: Weights, read: Reader, log_p: Tensor, chosen: Tensor
) -> dict[str, Tensor]:
    """-gamma k3(pi‖pi_masked) + eta_1 H(pi) + eta_2 H(pi_masked); every patch of the masked image is black."""
    terms: dict[str, Tensor] = {}
    if objective.entropy:
        terms["entropy"] = objective.entropy * torch.stack([entropy(p) for p in log_p])
    if not objective.gap:
        return terms
    black = Image.new("RGB", row.question.image.size)
    reading: Callable[..., Tensor] = read.without_gradient if objective.masked_once else read
    model = weights.old if objective.masked_once else weights.policy
    masked = reading(model, row.question.text, black, row.response)
    log_ratio = chosen - masked.gather(1, torch.tensor(row.response).unsqueeze(1)).squeeze(1)
    if objective.gap_of_code:
        log_ratio = -log_ratio
    gap = log_ratio.exp() - log_ratio - 1
    terms["perception gap"] = -objective.gap * (gap.clamp_max(10.0) if objective.gap_of_code else gap)
    if objective.masked_entropy:
        terms["masked entropy"] = objective.masked_entropy * torch.stack([entropy(p) for p in masked])
    return terms


TERMS = ("policy gradient", "credit", "reference KL", "tutoring", "perception gap", "entropy", "masked entropy")
