"""Naive float64 versions, written from the paper's formulas with Python numbers; slow on purpose."""

import math


def softmax(logits):
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def top_ids(logits, k):
    return sorted(range(len(logits)), key=lambda v: -logits[v])[:k]


def kl(x, y):
    """What one id contributes to KL(a‖b)."""
    return 0.0 if x == 0 else math.inf if y == 0 else x * math.log(x / y)


def term(x, y, kind):
    """What one id contributes; x is the student's probability, y the teacher's."""
    if kind == "forward_kl":
        return kl(y, x)
    if kind == "reverse_kl":
        return kl(x, y)
    m = (x + y) / 2
    return 0.5 * kl(y, m) + 0.5 * kl(x, m)


def divergence_of(p, q, kind):
    return sum(term(x, y, kind) for x, y in zip(p, q, strict=True))


def support_of(student, teacher, k, support):
    ids = set()
    if support in ("union", "student"):
        ids |= set(top_ids(student, k))
    if support in ("union", "teacher"):
        ids |= set(top_ids(teacher, k))
    return sorted(ids)


def compress(p, ids, tail, teacher=False):
    inside = [p[v] for v in ids]
    if tail == "none" or (tail == "student" and teacher):
        total = math.fsum(inside)
        return [x / total for x in inside] + [0.0] * (tail == "student")
    return [*inside, math.fsum(p[v] for v in range(len(p)) if v not in set(ids))]


def topk(student, teacher, k, kind="jsd", support="union", tail="bucket"):
    """One row: lists of logits to one number."""
    p, q = softmax(student), softmax(teacher)
    ids = support_of(student, teacher, k, support)
    return divergence_of(compress(p, ids, tail), compress(q, ids, tail, teacher=True), kind)


def full(student, teacher, kind="jsd", clip=math.inf):
    return sum(min(term(x, y, kind), clip) for x, y in zip(softmax(student), softmax(teacher), strict=True))


def topk_gradient(student, teacher, k, step=1e-6, **settings):
    """Central differences with respect to the student's logits; the support is held fixed by small steps."""
    gradient = []
    for v in range(len(student)):
        up, down = list(student), list(student)
        up[v] += step
        down[v] -= step
        gradient.append((topk(up, teacher, k, **settings) - topk(down, teacher, k, **settings)) / (2 * step))
    return gradient


def jsd_closed_form_gradient(student, teacher, k):
    """p_v (a_v - E) on the support, p_v (a_tail - E) outside it."""
    p, q = softmax(student), softmax(teacher)
    ids = support_of(student, teacher, k, "union")

    def a(x, y):
        return 0.5 * math.log(x / ((x + y) / 2)) if x > 0 else 0.0

    inside = {v: a(p[v], q[v]) for v in ids}
    p_tail = math.fsum(p[v] for v in range(len(p)) if v not in inside)
    q_tail = math.fsum(q[v] for v in range(len(q)) if v not in inside)
    a_tail = a(p_tail, q_tail)
    expectation = math.fsum(p[v] * inside[v] for v in ids) + p_tail * a_tail
    return [p[v] * (inside.get(v, a_tail) - expectation) for v in range(len(p))]
