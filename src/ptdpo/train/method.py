"""The method over an engine: what becomes of rollouts before they are trained on, and what is added to the loss.

An engine calls, in this order: ``before_grading``, ``prepare`` and ``log_groups`` for each batch of rollouts;
``begin_step``, ``loss`` for each micro-batch, and ``end_step`` for each optimiser step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ptdpo.algo.gates import EntropyFloor
from ptdpo.algo.routing import group_shares
from ptdpo.data.contexts import Row, context_named
from ptdpo.train.engine import NOT_TUTORED, Engine, MicroBatch, Prepared, RolloutBatch, RolloutRecord
from ptdpo.train.method_settings import MethodSettings
from ptdpo.train.recording import OFF, Drawn, Reads, Recorder
from ptdpo.train.rollouts.hint_choice import HintChoices
from ptdpo.train.rollouts.hinted import Chosen, draw_hinted
from ptdpo.train.rollouts.resampling import resample
from ptdpo.train.rollouts.tutored import tutor_rollouts
from ptdpo.train.step import OptimiserStep, TutoringSums
from ptdpo.train.terms import Term
from ptdpo.train.terms.perception import PerceptionTerm
from ptdpo.train.terms.tutoring import TutoringTerm
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.head import ScoredTokens
from ptdpo.tutor.teacher import Teacher


class Method:
    """Tutoring, perception, resampling and hints, as far as they are on.

    Args:
        engine: what trains.
        settings: which parts are on, and how.
        teacher: reads what is tutored; needed if tutoring is on.
    """

    def __init__(self, engine: Engine, settings: MethodSettings, teacher: Teacher | None = None) -> None:
        self._engine, self.settings, self.teacher = engine, settings, teacher
        self.step = OptimiserStep()
        self._tutoring = None if settings.tutoring is None else TutoringTerm(engine, settings.tutoring)
        self._perception = None if settings.perception is None else PerceptionTerm(engine, settings.perception)
        tutoring, context = settings.tutoring, "" if settings.hinted is None else "hints"
        shown = (context, "question") if tutoring is None else (tutoring.context, tutoring.images)
        self.recorder = None if settings.records is None else Recorder(engine, settings.records, Reads(*shown))
        self._hinted: Mapping[int, int] = {}
        adaptive = tutoring is not None and context_named(tutoring.context).adaptive
        # A checkpoint must hold them; ``None``: no hint is chosen.
        self.hint_choices = HintChoices() if adaptive else None
        self.terms: list[Term] = [term for term in (self._perception, self._tutoring) if term is not None]

    @property
    def floor(self) -> EntropyFloor | None:
        """Return the gate over steps, which a checkpoint must hold; ``None``: there is none."""
        return None if self._tutoring is None else self._tutoring.floor

    # -- a batch of rollouts -----------------------------------------------------------------------------------

    def before_grading(self, rows: Sequence[Row]) -> Chosen:
        """Return the rows to train on, and their rollouts if they had to be sampled to choose."""
        chosen = Chosen(rows)
        if self.settings.resampling is not None:
            chosen = Chosen(*resample(self._engine, self.settings.resampling, rows))
        if self.settings.hinted is not None:
            chosen = draw_hinted(self._engine, self.settings.hinted, chosen)
        self._hinted = chosen.hinted
        return chosen

    def log_groups(self, groups: Groups) -> None:
        """Log how the groups did."""
        all_fail, informative, all_pass = group_shares(groups.accuracy)
        self._engine.log("accuracy", groups.accuracy.mean().item())
        self._engine.log("groups/all_fail", all_fail)
        self._engine.log("groups/informative", informative)
        self._engine.log("groups/all_pass", all_pass)

    def prepare(self, batch: RolloutBatch) -> Prepared:
        """Return what the method adds to a graded batch: who is tutored and how, masked images, advantages."""
        advantages, generations = batch.advantages, batch.groups.generations
        if self.settings.rl_weight != 1.0:
            advantages = advantages * self.settings.rl_weight
        if self.settings.leave_one_out:
            advantages = advantages * (generations / (generations - 1))
        masked = [None] * len(batch.rows) if self._perception is None else self._perception.prepare(batch)
        readings, replaced, reasons = [NOT_TUTORED] * len(batch.rows), None, [OFF] * len(batch.rows)
        levels: Mapping[int, int] = {}
        if self._tutoring is not None:
            assert self.teacher is not None
            with self._engine.timed("teacher"):
                tutored = tutor_rollouts(self._engine, self._tutoring.settings, self.teacher, batch, self.hint_choices)
            readings, replaced, reasons = tutored.readings, tutored.replaced, tutored.reasons
            levels = tutored.levels
        # What the policy did not draw, and what is tutored in the place of RL.
        without = set(replaced or ())
        if self._tutoring is not None and not self._tutoring.settings.keep_rl:
            without |= {row for row, reading in enumerate(readings) if reading.tokens}
        if without:
            advantages = advantages.index_fill(0, torch.tensor(sorted(without), device=advantages.device), 0.0)
        kept = [None] * len(batch.rows)
        if self.recorder is not None:
            with self._engine.timed("record_groups"):
                kept = self.recorder.batch(batch, advantages, reasons, Drawn(replaced or {}, self._hinted, levels))
        own = zip(batch.groups.of_rows(), readings, masked, kept, strict=True)
        return Prepared([RolloutRecord(*each) for each in own], advantages, replaced)

    # -- an optimiser step -------------------------------------------------------------------------------------

    def begin_step(self, micro_batches: Sequence[MicroBatch]) -> None:
        """Count what an optimiser step tutors.

        Args:
            micro_batches: all of this process that the step will train on.
        """
        if self._tutoring is not None:
            self.step = self._tutoring.begin_step(micro_batches)

    def with_teacher_head(self, micro: MicroBatch) -> MicroBatch:
        """Return a micro-batch with the teacher's head, if its step tutors; a collective call if that is sharded."""
        if self.teacher is None or not self.step.tutored_tokens:
            return micro
        return replace(micro, teacher_head=self.teacher.head())

    def rows_without_kl(self, micro: MicroBatch) -> Tensor | None:
        """Return [B] bool, the rows that have no reference KL; ``None``: all have one."""
        return None if self._tutoring is None else self._tutoring.rows_without_kl(micro)

    def reweights(self, micro: MicroBatch) -> bool:
        """Return whether the micro-batch's advantages become those of tokens, ``token_advantages``."""
        return self._tutoring is not None and self.step.is_open and self._tutoring.reweights(micro)

    def token_advantages(self, micro: MicroBatch, advantages: Tensor, log_probs: Tensor) -> Tensor:
        """Return [B, T], the advantages of tokens.

        Args:
            micro: what is trained on, after ``with_teacher_head``.
            advantages: [B].
            log_probs: [B, T], of the current policy, without gradient.
        """
        assert self._tutoring is not None
        return self._tutoring.token_advantages(micro, advantages, log_probs, self.step)

    def loss(self, policy_loss: Tensor, micro: MicroBatch, scored: ScoredTokens) -> Tensor:
        """Return -J + lambda L_PTD, (12), and the perception terms, for one micro-batch.

        Args:
            policy_loss: -J of the micro-batch, reference KL included.
            micro: what is trained on, after ``with_teacher_head``.
            scored: the current policy there.
        """
        loss = policy_loss * micro.share
        for term in self.terms:
            part = term.loss(micro, scored, self.step)
            loss = loss if part is None else loss + part
        self.record(micro, scored)
        return loss

    def record(self, micro: MicroBatch, scored: ScoredTokens) -> None:
        """Keep the micro-batch's rollouts that are kept token by token."""
        if self.recorder is None or not any(record.kept for record in micro.records):
            return
        with self._engine.timed("record_tokens"):
            details = scored.details if self._tutoring is None else self._tutoring.details(micro, scored)
            self.recorder.tokens(micro, scored.log_probs, details)

    def end_step(self) -> None:
        """Log what the optimiser step tutored."""
        if self._tutoring is not None:
            self._tutoring.log(self.step)
            self.step = replace(self.step, sums=TutoringSums())
