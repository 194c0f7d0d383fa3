"""An engine of forty lines: one process, rollouts from a table, a model that is one matrix."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from ptdpo.algo.lm_head import teacher_topk, token_stats
from ptdpo.algo.teacher_topk import concatenate
from ptdpo.train.engine import MicroBatch, RolloutBatch
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.head import HeadWeights, ScoreDetails, ScoredTokens
from ptdpo.tutor.teacher import Teacher
from tests.one_process import OneProcess


@dataclass
class Table:
    response_ids: list

    def with_rows(self, replaced, *, keep_prompts=False):
        return Table([replaced[n][0].response_ids[replaced[n][1]] if n in replaced else ids
                      for n, ids in enumerate(self.response_ids)])  # fmt: skip


class FakeEngine:
    processes, generations, step, micro_step, progress = OneProcess(), 2, 0, 0, 0.0

    def __init__(self, rows, sample=None, grade=None):
        self.rows, self.sample, self.grade, self.logged = rows, sample, grade, {}
        self.lines = []

    def generate(self, rows, prompts, *, logged=True):
        return Table([self.sample(row, prompt) for row, prompt in zip(rows, prompts, strict=True)])

    def accuracy(self, rows, rollouts):
        return [self.grade(row, ids) for row, ids in zip(rows, rollouts.response_ids, strict=True)]

    def texts(self, response_ids):
        return [" ".join(map(str, ids.tolist())) for ids in response_ids]

    def autocast(self):
        return nullcontext()

    def timed(self, part):
        return nullcontext()

    def log(self, name, value):
        self.logged[name] = value

    def token(self, token_id):
        return str(token_id)

    def record(self, lines):
        self.lines += lines

    def keep_images(self, images):
        return tuple(images)

    def batch(self, rows, response_ids, response_mask, accuracy):
        groups = Groups(accuracy.view(-1, self.generations), len(rows))
        return RolloutBatch(rows, groups, response_ids, response_mask, accuracy - 0.5, has_images=False)

    def micro_batch(self, batch, prepared, rows, **changes):
        records = [prepared.records[row] for row in rows]
        return MicroBatch(records, batch.response_ids[rows], batch.response_mask[rows], **changes)


class FakeTeacher(Teacher):
    """Its hidden state at a token is that of a table; it remembers what it was shown."""

    def __init__(self, table, weight, k):
        self.table, self.weight, self.k, self.shown = table, weight, k, []

    def calls_needed(self, lessons):
        return lessons

    def read(self, lessons, *, calls, filler):
        self.shown += lessons
        return [self.reduced(self.table[one.response_ids]) for one in lessons]

    def reduced(self, states):
        entropy = token_stats(states, self.weight, torch.zeros(len(states), dtype=torch.long)).entropy
        return replace(teacher_topk(states, self.weight, k=self.k).with_head(None), entropy=entropy)

    def head(self):
        return HeadWeights(self.weight, None)


def scored(micro, hidden, weight, k):
    """Score a micro-batch of hidden states [B, T, H] as a model with a scoring head would."""
    mask, view = micro.response_mask, {}
    read = [record.reading.teacher for record in micro.records if record.reading.teacher is not None]
    if read and micro.teacher_head is not None:
        rows = micro.tutored[mask].nonzero().squeeze(-1)
        view = {"teacher": concatenate(read).with_head(*micro.teacher_head), "rows": rows, "k": k}
    stats = token_stats(hidden[mask], weight, micro.response_ids[mask], **view)
    empty = torch.zeros(mask.shape)
    log_probs, entropy = (empty.masked_scatter(mask, values) for values in (stats.log_prob, stats.entropy))
    return ScoredTokens(log_probs, ScoreDetails(entropy, stats.divergence, stats.overlap))
