"""Random student and teacher for the fused head, and its comparison with the dense float64 reference."""

import itertools
from typing import get_args

import torch
import torch.utils.checkpoint

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.lm_head import teacher_topk, token_stats

KINDS, SUPPORTS, TAILS = get_args(Kind), get_args(Support), get_args(Tail)
# Where the teacher has nothing outside the support, KL(student‖teacher) is infinite.
KIND_TAILS = [pair for pair in itertools.product(KINDS, TAILS) if pair != ("reverse_kl", "student")]
OUTPUTS = ("log_prob", "entropy", "divergence")
METRICS = ("overlap", "student_tail", "teacher_tail")


class Case:
    """Random student and teacher, in float64; the reference and the fused head see the same numbers."""

    def __init__(self, tokens=11, vocabulary=150, size=12, tutored=6, bias=False, scale=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.hidden, self.weight = scale * draw(tokens, size), draw(vocabulary, size)
        self.bias = draw(vocabulary) if bias else None
        self.targets = torch.randint(vocabulary, (tokens,), generator=generator)
        self.rows = torch.randperm(tokens, generator=generator)[:tutored]
        self.teacher_hidden = self.hidden[self.rows] + 0.7 * scale * draw(tutored, size)
        self.teacher_weight = self.weight + 0.1 * draw(vocabulary, size)
        self.teacher_bias = draw(vocabulary) if bias else None
        self.upstream = [draw(tokens), draw(tokens), draw(tutored)]

    def cast(self, dtype):
        """Round to a type and back, so that both sides start from the same rounded numbers."""
        for name in ("hidden", "weight", "bias", "teacher_hidden", "teacher_weight", "teacher_bias"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(dtype).double())
        return self

    def run(self, score=token_stats, dtype=torch.float64, outputs=OUTPUTS, teacher_k=None, chunks=None, **settings):
        """Return (stats, gradients of hidden, weight, bias) of a random linear function of the outputs."""

        def at(tensor):
            return None if tensor is None else tensor.to(dtype)

        leaves = [None if t is None else at(t).clone().requires_grad_() for t in (self.hidden, self.weight, self.bias)]
        k, temperature = settings.get("k", 100), settings.get("temperature", 1.0)
        record = teacher_topk(
            at(self.teacher_hidden),
            at(self.teacher_weight),
            at(self.teacher_bias),
            k=teacher_k or k,
            temperature=temperature,
            row_chunk=(chunks or {}).get("row_chunk"),
        )
        stats = score(
            leaves[0], leaves[1], self.targets, leaves[2], teacher=record, rows=self.rows, **settings, **(chunks or {})
        )
        terms = [(getattr(stats, n) * u).sum() for n, u in zip(OUTPUTS, self.upstream, strict=True) if n in outputs]
        sum(terms).backward()
        return stats, [leaf.grad for leaf in leaves if leaf is not None]

    def compare(self, dtype=torch.float64, value=1e-12, gradient=1e-12, outputs=OUTPUTS, chunks=None, **settings):
        """Compare with the dense float64 reference; tolerances: absolute for values, relative norm for gradients."""
        self.cast(dtype)
        got, got_gradients = self.run(dtype=dtype, outputs=outputs, chunks=chunks, **settings)
        expected, gradients = self.run(dense_token_stats, outputs=outputs, **settings)
        for name in (*OUTPUTS, *METRICS):
            difference = (getattr(got, name).double() - getattr(expected, name)).abs().max().item()
            assert difference <= value * max(1.0, getattr(expected, name).abs().max().item()), name
        for mine, reference in zip(got_gradients, gradients, strict=True):
            assert (mine.double() - reference).norm() <= gradient * reference.norm()
            assert mine.dtype == dtype
