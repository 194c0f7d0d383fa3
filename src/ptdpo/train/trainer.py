"""``PTDTrainer``: TRL's GRPOTrainer with the method plugged in.

TRL's own code runs between these overrides, in this order:

- ``_load_optimizer_and_scheduler``: what is saved beside weights resumes too (those DeepSpeed loads by itself).
- ``_prepare_inputs``: makes rollouts when the buffer is used up, keeps groups together, and begins an optimiser step.
- ``_generate_and_score_completions``: resamples and hints before, prepares after.
- ``_generate``: hands over rollouts that exist already.
- ``_calculate_rewards``: keeps the rewards of every rollout.
- ``_get_per_token_logps_and_entropies``: scores through ``ptdpo.tutor.head``.
- ``compute_loss``: splits a micro-batch by tokens, and leaves rows out from which nothing is learnt.
- ``_compute_loss``: adds the method's terms.
- ``training_step``: ends an optimiser step.

Without tutoring and perception the last six are TRL's own code, unless ``share_prefix``, ``micro_batch_tokens`` or
``skip_idle_rows`` ask for ours. The method is ``ptdpo.train.method``, which sees the trainer through
``ptdpo.train.trl.engine`` only.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.trainer.utils import get_config_model_id

from ptdpo.data.readable import readable_row
from ptdpo.models.adapters import refuse_adapter
from ptdpo.models.family import without_empty_images
from ptdpo.models.loading import load_processor
from ptdpo.records import Grading
from ptdpo.rewards.functions import (
    ACCURACY_WEIGHT,
    DISPUTES_FILE,
    FORMAT_WEIGHT,
    completion_text,
    default_rewards,
)
from ptdpo.train.engine import MicroBatch
from ptdpo.train.method import Method
from ptdpo.train.metrics import PartsClock, reconsideration_share
from ptdpo.train.recording import leading_positions
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.accuracy import accuracy_of, with_accuracy
from ptdpo.train.trl.batches import RECORDS, records_of, replace_responses, trust_responses
from ptdpo.train.trl.engine import TrlEngine
from ptdpo.train.trl.engine_check import CHECKED_TOKENS, unlogged
from ptdpo.train.trl.feedback import Feedback, refuse_unread_feedback, said_of_rollouts, with_columns
from ptdpo.train.trl.grouping import groups_kept_together
from ptdpo.train.trl.idle_rows import parts_of_micro_batches, refuse_unequal_skipping
from ptdpo.train.trl.method_settings import method_settings
from ptdpo.train.trl.method_state import MethodState, states_of
from ptdpo.train.trl.metrics_file import MetricsFile
from ptdpo.train.trl.record_files import PlainScores
from ptdpo.train.trl.reference import origin_of
from ptdpo.train.trl.rollouts import TrlRollouts
from ptdpo.train.trl.sample_tables import follow_records
from ptdpo.train.trl.scoring import Credited, KLFree, ScoredAgainst, ScoringModel
from ptdpo.train.trl.setup import (
    ban_special_tokens,
    check_images,
    check_prompts,
    install_scoring,
    pad_left,
    refuse_foreign_rollouts,
    refuse_missing_context,
    refuse_streams,
    with_overlong_penalty,
)
from ptdpo.train.trl.step_lines import say_steps_in_lines
from ptdpo.train.trl.teachers import MovingAverage, check_vocabulary, teacher_named
from ptdpo.train.trl.token_batches import loss_in_parts
from ptdpo.train.trl.turns import check_own_prompts, turns_of
from ptdpo.train.trl.vllm_rollouts import set_up_vllm
from ptdpo.train.trl.whole_checkpoints import WholeCheckpoints
from ptdpo.tutor.teacher import Teacher


@dataclass
class HandedOver:
    """What one override leaves for another, because TRL's code lies between them.

    Attributes:
        rollouts: made by resampling before TRL asks for them.
        prompts: what the policy reads, with what environments said at their start.
        tool_images: those that tools answered with, for each rollout; empty: none.
        accuracy: [N], of all processes' rollouts, before TRL weighs the rewards.
        rewards: [N, functions], of them too.
        said: what was said of this process's rollouts, see ``said_of_rollouts``.
    """

    rollouts: TrlRollouts | None = None
    prompts: Sequence[Any] = ()
    tool_images: Sequence[Any] = ()
    accuracy: Tensor = field(default_factory=lambda: torch.zeros(0))
    rewards: Tensor = field(default_factory=lambda: torch.zeros(0))
    said: Sequence[Mapping[str, Any]] = ()


class PTDTrainer(WholeCheckpoints, GRPOTrainer):
    """GRPO, DAPO or GSPO with privileged tutoring distillation, (12).

    Use it as TRL's ``GRPOTrainer``. Columns of the data set: ``prompt`` (messages in plain text), ``images``,
    ``answer``, and what ``args.tutoring_context`` shows the teacher: ``hint`` or ``prompt_with_hint`` (see
    ``hinted_prompt``), or ``solution``; rows without it are not tutored.

    Args:
        model: as for ``GRPOTrainer``. A model instance must be unchanged since it was loaded: the reference,
            which is also the teacher, is loaded from the same path.
        reward_funcs: ``None`` for 0.9 accuracy + 0.1 format, or for what an environment rewards itself; options are
            read from the prompt. ``args.accuracy_reward`` names the one that says who is right; by default the first.
        args: a ``PTDConfig``.
        accuracy: says who is right (0 or 1) in the place of a reward; called as reward functions are.
        feedback: says something of each rollout, for ``tutoring_context=feedback``; called as reward functions are.
        grading: how our own accuracy is graded, see ``ptdpo.rewards.grade_many``; given functions grade as they do.
        **kwargs: as for ``GRPOTrainer``.

    Raises:
        ValueError: if the accuracy reward is missing, the data lacks the column that the teacher is shown, or the
            reference would differ from the start model.
    """

    args: PTDConfig
    # Parts of TRL's may be used on a trainer that was never set up.
    _handed, _clock = HandedOver(), PartsClock()

    def __init__(
        self,
        model: "str | PreTrainedModel | Any",
        reward_funcs: Any = None,
        args: PTDConfig | None = None,
        *,
        accuracy: Callable[..., Any] | None = None,
        feedback: Feedback | None = None,
        grading: Grading = "sound",
        **kwargs: Any,
    ) -> None:
        args = args or PTDConfig(output_dir="ptdpo-output")
        refuse_foreign_rollouts(args, kwargs)
        refuse_unread_feedback(args, feedback)
        refuse_missing_context(args, kwargs.get("train_dataset"), told=feedback is not None)
        if isinstance(model, str):
            refuse_adapter(model, "model")
        if kwargs.get("processing_class") is None:
            path = model if isinstance(model, str) else get_config_model_id(model.config)
            kwargs["processing_class"] = load_processor(path, **origin_of(args))
        pad_left(kwargs["processing_class"])
        check_vocabulary(args, kwargs["processing_class"], model)
        if reward_funcs is None and not kwargs.get("environment_factory"):
            disputes = Path(str(args.output_dir)) / DISPUTES_FILE
            reward_funcs = default_rewards(grading, kwargs["processing_class"], disputes)
            args.reward_weights = args.reward_weights or [ACCURACY_WEIGHT, FORMAT_WEIGHT]
        if accuracy is not None:
            reward_funcs = with_accuracy(reward_funcs, accuracy, args, kwargs)
        if args.overlong_buffer:
            reward_funcs, args.reward_weights = with_overlong_penalty(reward_funcs, args)
        self._feedback = feedback
        given_adapter = not isinstance(model, str) and bool(is_peft_model(model))
        super().__init__(model, reward_funcs=reward_funcs, args=args, **kwargs)
        if args.micro_batch_tokens is not None and self.is_deepspeed_enabled:
            raise ValueError("micro_batch_tokens does not support DeepSpeed, which steps at every backward pass")
        self._engine_check = None
        if self.use_vllm:
            self._engine_check = set_up_vllm(self, args)
        elif args.ban_special_tokens:
            ban_special_tokens(self)
        self._own_scoring = args.tutors or args.perceives or args.shares_prefix
        self.shares_prefix = self._own_scoring and install_scoring(self, args)
        self._handed, self._clock = HandedOver(), PartsClock()
        self._plain: PlainScores | None = None
        self.engine = TrlEngine(self, args, accuracy_of(self, args), self._clock)
        teacher = None
        if args.tutors:
            teacher = teacher_named(args, self, model, given_adapter=given_adapter, share_prefix=self.shares_prefix)
            check_prompts(self, args)
        self.method = Method(self.engine, method_settings(args), teacher)
        for state in states_of(self.method):
            self.add_callback(state)
        refuse_unequal_skipping(args, self.accelerator.unwrap_model(self.model), has_aux_loss=self.aux_loss_enabled)
        self._parts = parts_of_micro_batches(args, self.engine.processes, shared=self.shares_prefix)
        refuse_streams(args, self.train_dataset)
        self.add_callback(MetricsFile())
        follow_records(self, self.engine.records, self.engine.processes.count)
        say_steps_in_lines(self)

    @property
    def teacher(self) -> Teacher | None:
        """Return who teaches; ``None`` without tutoring."""
        return self.method.teacher

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        for callback in self.callback_handler.callbacks if checkpoint else ():
            if isinstance(callback, MovingAverage | MethodState):
                callback.restore(str(checkpoint))

    # -- rollouts ----------------------------------------------------------------------------------------------

    def _generate(self, prompts: list) -> Any:
        if self._handed.rollouts is not None:
            ready, self._handed.rollouts = self._handed.rollouts, None
            return ready.as_tuple()
        self._handed.prompts = prompts
        with self._clock("generate"):
            *head, images, tool_images = super()._generate(prompts)
        if images is not None:
            # TRL marks rows without an image by None, which image processors refuse in a mixed batch.
            images = [row or [] for row in images]
        self._handed.tool_images = tool_images or ()
        return *head, images, tool_images

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Keep the rewards of all processes' rollouts, and log how many reconsider."""
        self._log_metric("reconsideration", reconsideration_share([completion_text(c) for c in completions]))
        with self._clock("reward"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._handed.accuracy = self.engine.right.among(rewards)
        self._handed.rewards = rewards
        if self.engine.training:
            self._handed.said = said_of_rollouts(self._feedback, inputs, prompts, completions, completion_ids_list)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        engine, method, foreign = self.engine, self.method, ()
        rows: Any = [readable_row(row) for row in inputs]
        if engine.training:
            chosen = method.before_grading(rows)
            assert chosen.rollouts is None or isinstance(chosen.rollouts, TrlRollouts)
            rows, self._handed.rollouts, foreign = list(chosen.rows), chosen.rollouts, tuple(chosen.foreign)
        check_images(engine.processes, rows)
        if engine.training and self._engine_check is not None:
            self._repeat_first_rows(rows)
        columns = super()._generate_and_score_completions(rows)
        trust_responses(columns, foreign)
        if engine.training and self._engine_check is not None:
            self._engine_check(rows, columns, "at the start" if self._engine_check.at_the_start else "")
        if self.environments:
            rows = [{**row, "prompt": prompt} for row, prompt in zip(rows, self._handed.prompts, strict=True)]
        if self.rollout_func is not None and self.args.tutors:
            check_own_prompts(self, rows, columns)
        rows = with_columns(rows, self._handed.said) if engine.training else rows
        turns = turns_of(self, columns, self._handed.tool_images) if self.args.tutors else None
        batch = engine.rollout_batch(rows, columns, self._handed.accuracy, self._handed.rewards, turns)
        if not self._handed.accuracy.isnan().any():
            method.log_groups(batch.groups)
        if not engine.training:
            return columns
        prepared = method.prepare(batch)
        columns["advantages"] = prepared.advantages
        if prepared.replaced is not None:
            padding: Any = self._tokenizer.pad_token_id
            replace_responses(columns, prepared.replaced, padding, engine.processes)
        if method.terms or self._parts is not None or any(record.kept for record in prepared.records):
            columns[RECORDS] = prepared.records
        return columns

    def _repeat_first_rows(self, rows: Any) -> None:
        """After the first update of the weights, see whether the engine has it, images included."""
        assert self._engine_check is not None
        count = self.engine.generations
        repeated = self._engine_check.rows_to_repeat(self.state.global_step, rows, count)
        if not repeated:
            return
        handed, self._handed = self._handed, HandedOver()
        with unlogged(self, CHECKED_TOKENS):
            self._engine_check(repeated, super()._generate_and_score_completions(repeated), "after the first update")
        self._handed = handed

    # -- the optimiser step ------------------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """One micro-batch; logs divergence and seconds when the optimiser step is complete."""
        with self._clock("step"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._log_seconds()
            self.method.end_step()
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """At the start of an optimiser step, count its tutored tokens over micro-batches and processes."""
        with self._clock("prepare"), self._grouping():
            inputs = super()._prepare_inputs(generation_batch)
            if (
                self.method.terms
                and self.engine.training
                and self._step % self.current_gradient_accumulation_steps == 0
            ):
                self.method.begin_step(self.engine.micro_batches())
        return inputs

    def _grouping(self) -> AbstractContextManager[None]:
        if not self.shares_prefix:
            return nullcontext()
        assert self.num_generations is not None
        assert self.args.steps_per_generation is not None
        rows = self.args.per_device_train_batch_size * self.args.steps_per_generation
        return groups_kept_together(self.num_generations, self.engine.processes.index * rows)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Score old, reference and current policy through one head, so that they round alike."""
        if batch_size is not None and self._parts is not None and (budget := self._parts.budget) is not None:
            batch_size = budget.rows_within(attention_mask, logits_to_keep, self.engine.generations, batch_size)
        score = partial(super()._get_per_token_logps_and_entropies, batch_size=batch_size)
        if not self._own_scoring:
            scores = score(
                lambda **inputs: model(**without_empty_images(inputs)),
                input_ids, attention_mask, logits_to_keep, **kwargs,
            )  # fmt: skip
            if self._plain is not None:
                self._plain.take(*scores[:2])
            return scores
        scoring = model if isinstance(model, ScoringModel) else self._scoring(model, logits_to_keep)
        scores = score(scoring, input_ids, attention_mask, logits_to_keep, **kwargs)
        for each in scoring.overwritten:
            each.overwrite(scores[0])
        return scores

    def _scoring(self, model: Any, response_length: int) -> ScoringModel:
        return ScoringModel(model, response_length, self.temperature, head=self.args.head)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The loss of a micro-batch; with ``micro_batch_tokens`` all parts but the last are differentiated here."""
        if self._parts is None or not self.engine.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        parts = self._parts.of(inputs, self.engine.log)
        return loss_in_parts(parts, partial(self._loss, model), self.accelerator, model, self._metrics["train"])

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        """-J + lambda L_PTD, (12), and the perception terms."""
        return self._loss(model, inputs, 1.0)

    def _loss(self, model: Any, inputs: dict[str, Any], share: float) -> Tensor:
        """Return the loss of a micro-batch, or of a part of it with its share of the mean over rows."""
        method, keeps = self.method, any(record.kept for record in records_of(inputs))
        if not self.engine.training or not (method.terms or keeps):
            return super()._compute_loss(model, inputs) * share
        micro = self.engine.micro_batch(inputs, model, share)
        if not self._own_scoring:
            return self._plain_loss(model, inputs, micro)
        micro = method.with_teacher_head(micro)
        scoring = self._scoring(model, inputs["completion_ids"].size(1))
        scoring.compared, scoring.leading = self._compared(micro), leading_positions(micro)
        kl_free = method.rows_without_kl(micro)
        if kl_free is not None and "ref_per_token_logps" in inputs:
            inputs = {**inputs, "ref_per_token_logps": inputs["ref_per_token_logps"].clone()}
            scoring.overwritten.append(KLFree(inputs["ref_per_token_logps"], kl_free))
        if method.reweights(micro):
            own = inputs["advantages"]
            inputs = {**inputs, "advantages": own.unsqueeze(1).repeat(1, micro.response_ids.size(1))}
            of_tokens = partial(method.token_advantages, micro, own)
            scoring.overwritten.append(Credited(inputs["advantages"], of_tokens))
        # TRL hands its model to the scoring override and to nothing else.
        policy_loss = super()._compute_loss(scoring, inputs)
        (scored,) = scoring.scored
        return method.loss(policy_loss, micro, scored)

    def _plain_loss(self, model: Any, inputs: dict[str, Any], micro: MicroBatch) -> Tensor:
        """Return TRL's own loss, and keep what it scored on the way."""
        with PlainScores(self.accelerator.unwrap_model(model), micro, self.temperature) as plain:
            self._plain = plain
            loss = super()._compute_loss(model, inputs)
        self._plain, scored = None, plain.scored()
        if scored is not None:
            self.method.record(micro, scored)
        return loss * micro.share

    def _compared(self, micro: MicroBatch) -> ScoredAgainst | None:
        """Return with what the micro-batch is compared while it is scored; sampled tokens are, afterwards."""
        if micro.teacher_head is None or self.args.tutoring_use != "loss":
            return None
        readings = [record.reading for record in micro.records]
        return ScoredAgainst(self.args.divergence, readings, micro.teacher_head, micro.tutored)

    def _log_seconds(self) -> None:
        seconds = self._clock.take()
        prepare = seconds.pop("prepare", 0.0)
        groups, tokens = seconds.pop("record_groups", 0.0), seconds.pop("record_tokens", 0.0)
        seconds["update"] = seconds.pop("step", 0.0) - prepare - tokens
        seconds["score"] = prepare - sum(seconds.get(part, 0.0) for part in ("generate", "reward", "teacher")) - groups
        seconds["records"] = groups + tokens
        for part in ("generate", "reward", "teacher", "score", "update", "records"):
            self.engine.log(f"seconds/{part}", max(seconds.get(part, 0.0), 0.0))
