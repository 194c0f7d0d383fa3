"""``PTDTrainer``: TRL's GRPOTrainer with a tutoring term, in five hooks.

1. ``_calculate_rewards`` keeps the accuracy of every rollout.
2. ``_generate_and_score_completions`` resamples, routes, and lets the teacher read the routed rollouts.
3. ``_prepare_inputs`` keeps groups together and counts the tutored tokens of the optimiser step, |F| of (11).
4. ``_get_per_token_logps_and_entropies`` scores through ``ptdpo.tutor.head``.
5. ``_compute_loss`` adds the tutoring loss (12) and the perception terms.

Without tutoring and perception hooks 3 to 5 are TRL's own code, unless ``share_prefix`` or ``micro_batch_tokens`` ask
for ours. What a teacher is: ``ptdpo.train.teachers``; what it reads: ``ptdpo.tutor.context``; what is routed to it:
``ptdpo.train.tutoring``. PAPO's terms: ``ptdpo.train.perception``; DAPO's resampling: ``ptdpo.train.resampling``;
HDPO's rollouts: ``ptdpo.train.privileged_rollouts``.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer

from ptdpo.algo.objectives import ratio_weights, sampled_distillation, scheduled, tutoring_loss
from ptdpo.algo.routing import group_shares
from ptdpo.algo.teacher_topk import concatenate
from ptdpo.models.loading import load_processor
from ptdpo.rewards.functions import (
    ACCURACY_WEIGHT,
    FORMAT_WEIGHT,
    accuracy_reward,
    completion_text,
    format_reward,
)
from ptdpo.train.examples import append_example, pick_example
from ptdpo.train.grouping import groups_kept_together
from ptdpo.train.metrics import MetricsFile, PartsClock, TutoringSums, reconsideration_share
from ptdpo.train.perception import PerceptionTerms
from ptdpo.train.resampling import resample
from ptdpo.train.rollouts import Rollouts
from ptdpo.train.scoring import ScoringModel, without_empty_images
from ptdpo.train.settings import PTDConfig
from ptdpo.train.setup import (
    accuracy_column,
    ban_special_tokens,
    check_groups,
    check_images,
    install_scoring,
    refuse_foreign_rollouts,
    refuse_missing_context,
    with_overlong_penalty,
)
from ptdpo.train.teachers import MovingAverage, check_vocabulary, make_teacher
from ptdpo.train.token_batches import GROUP, loss_in_parts, rows_within
from ptdpo.train.tutoring import Tutor
from ptdpo.tutor.head import HeadWeights, ScoredTokens

TUTORING = "tutoring"


class PTDTrainer(GRPOTrainer):
    """GRPO, DAPO or GSPO with privileged tutoring distillation, (12).

    Use it as TRL's ``GRPOTrainer``. Columns of the data set: ``prompt`` (messages in plain text), ``images``,
    ``answer``, and what ``args.tutoring_context`` shows the teacher: ``hint`` or ``prompt_with_hint`` (see
    ``hinted_prompt``), or ``solution``; rows without it are not tutored.

    Args:
        model: as for ``GRPOTrainer``. A model instance must be unchanged since it was loaded: the reference,
            which is also the teacher, is loaded from the same path.
        reward_funcs: ``None`` for 0.9 accuracy + 0.1 format. Others must include the one that
            ``args.accuracy_reward`` names.
        args: a ``PTDConfig``.
        **kwargs: as for ``GRPOTrainer``.

    Raises:
        ValueError: if the accuracy reward is missing, the data lacks the column that the teacher is shown, or the
            reference would differ from the start model.
    """

    args: PTDConfig

    def __init__(
        self,
        model: "str | PreTrainedModel | Any",
        reward_funcs: Any = None,
        args: PTDConfig | None = None,
        **kwargs: Any,
    ) -> None:
        args = args or PTDConfig(output_dir="ptdpo-output")
        refuse_foreign_rollouts(args, kwargs)
        refuse_missing_context(args, kwargs.get("train_dataset"))
        if reward_funcs is None:
            reward_funcs = [accuracy_reward, format_reward]
            args.reward_weights = args.reward_weights or [ACCURACY_WEIGHT, FORMAT_WEIGHT]
        if args.overlong_buffer:
            reward_funcs, args.reward_weights = with_overlong_penalty(reward_funcs, args)
        if kwargs.get("processing_class") is None and isinstance(model, str):
            kwargs["processing_class"] = load_processor(model)
        if kwargs.get("processing_class") is not None:
            check_vocabulary(args, kwargs["processing_class"], model)
        given_adapter = not isinstance(model, str) and bool(is_peft_model(model))
        super().__init__(model, reward_funcs=reward_funcs, args=args, **kwargs)
        if kwargs.get("processing_class") is None:
            check_vocabulary(args, self.processing_class, model)
        if args.micro_batch_tokens is not None and self.is_deepspeed_enabled:
            raise ValueError("micro_batch_tokens does not support DeepSpeed, which steps at every backward pass")
        self._accuracy_column = accuracy_column(self)
        self._accuracy = torch.zeros(0)
        self._tutored_tokens = 0
        self._sums = TutoringSums()
        self._clock = PartsClock()
        self._scoring: ScoringModel | None = None
        self._kl_free: tuple[Tensor, Tensor] | None = None
        self._example_step = 0
        self._rl_share = 1.0
        if args.ban_special_tokens and not self.use_vllm:
            ban_special_tokens(self)
        self._own_scoring = args.tutors or args.perceives or args.shares_prefix
        self.shares_prefix = self._own_scoring and install_scoring(self)
        self.teacher = make_teacher(self, model, given_adapter=given_adapter) if args.tutors else None
        self._tutor = None if self.teacher is None else Tutor(self, self.teacher)
        self._perception = PerceptionTerms(self) if args.perceives else None
        self._ready: Rollouts | None = None
        check_groups(self)
        self.add_callback(MetricsFile())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MovingAverage):
                callback.restore(resume_from_checkpoint)

    # -- rollouts: accuracy, routing, teacher -----------------------------------------------------------------

    def _generate(self, prompts: list) -> Any:
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready.as_tuple()
        with self._clock("generate"):
            *head, images, tool_images = super()._generate(prompts)
        if images is not None:
            # TRL marks rows without an image by None, which image processors refuse in a mixed batch.
            images = [row or [] for row in images]
        return *head, images, tool_images

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Keep the accuracy of all processes' rollouts, and log how many reconsider."""
        self._log_metric("reconsideration", reconsideration_share([completion_text(c) for c in completions]))
        with self._clock("reward"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._accuracy = rewards[:, self._accuracy_column]
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = self._training
        if training and self.args.resampling_rounds:
            inputs, self._ready = resample(self, inputs)
        check_images(self, inputs)
        output = super()._generate_and_score_completions(inputs)
        generations = self.num_generations if training else self.num_generations_eval
        assert generations is not None
        self._log_groups(self._accuracy.view(-1, generations), "train" if training else "eval")
        if training and self.args.micro_batch_tokens is not None:
            first = self.accelerator.process_index * len(inputs)
            output[GROUP] = [(first + row) // generations for row in range(len(inputs))]
        if training and self.args.rl_weight != 1.0:
            output["advantages"] = output["advantages"] * self.args.rl_weight
        if training and self.args.leave_one_out:
            output["advantages"] = output["advantages"] * (generations / (generations - 1))
        if training and self._perception is not None:
            self._perception.prepare(inputs, output)
        if training and self._tutor is not None:
            with self._clock("teacher"):
                output[TUTORING] = self._tutor(inputs, output, self._accuracy)
        return output

    def _log_groups(self, accuracy: Tensor, mode: str) -> None:
        all_fail, informative, all_pass = group_shares(accuracy)
        for name, value in {
            "accuracy": accuracy.mean().item(),
            "groups/all_fail": all_fail,
            "groups/informative": informative,
            "groups/all_pass": all_pass,
        }.items():
            self._metrics[mode][name].append(value)

    # -- the optimiser step: count, score, loss ---------------------------------------------------------------

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """One micro-batch; logs divergence and seconds when the optimiser step is complete."""
        with self._clock("step"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._log_step()
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """At the start of an optimiser step, count its tutored tokens over micro-batches and processes."""
        with self._clock("prepare"), self._grouping():
            inputs = super()._prepare_inputs(generation_batch)
            micro_batches = self.current_gradient_accumulation_steps
            if self._training and self.teacher is not None and self._step % micro_batches == 0:
                self._tutored_tokens = self._count_tutored_tokens(micro_batches)
        return inputs

    def _grouping(self) -> AbstractContextManager[None]:
        if not self.shares_prefix:
            return nullcontext()
        assert self.num_generations is not None
        assert self.args.steps_per_generation is not None
        rows = self.args.per_device_train_batch_size * self.args.steps_per_generation
        return groups_kept_together(self.num_generations, self.accelerator.process_index * rows)

    def _count_tutored_tokens(self, micro_batches: int) -> int:
        """Return |F| of (11) for the optimiser step that begins."""
        assert self._buffered_inputs is not None
        assert self.args.steps_per_generation is not None
        first = self._step % self.args.steps_per_generation
        window: list[Any] = self._buffered_inputs[first : first + micro_batches]
        local = sum(record.tokens for batch in window for record in batch[TUTORING])
        if self.args.tutoring_mean == "all":
            local = sum(int(batch["completion_mask"].sum()) for batch in window)
        return int(self._summed(torch.tensor(local, device=self.accelerator.device)))

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
        if batch_size is not None and self.args.micro_batch_tokens is not None:
            batch_size = rows_within(self, attention_mask, logits_to_keep, batch_size)
        score = partial(super()._get_per_token_logps_and_entropies, batch_size=batch_size)
        if not self._own_scoring:
            return score(
                lambda **inputs: model(**without_empty_images(inputs)),
                input_ids, attention_mask, logits_to_keep, **kwargs,
            )  # fmt: skip
        dense = self.args.head == "dense"
        scoring = self._scoring or ScoringModel(model, logits_to_keep, self.temperature, dense=dense)
        scores = score(scoring, input_ids, attention_mask, logits_to_keep, **kwargs)
        if self._scoring is not None and self._kl_free is not None:
            reference, rows = self._kl_free
            # k3 and its gradient vanish where reference and policy agree.
            reference[rows] = scores[0].detach()[rows]
        return scores

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The loss of a micro-batch; with ``micro_batch_tokens`` all parts but the last are differentiated here."""
        if self.args.micro_batch_tokens is None or not self._training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss_in_parts(self, model, inputs)

    def loss_of_part(self, model: Any, inputs: Any, share: float) -> Tensor:
        """Return the loss of a part of a micro-batch, with ``share`` of J."""
        self._rl_share = share
        try:
            return self._compute_loss(model, inputs)
        finally:
            self._rl_share = 1.0

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        """-J + lambda L_PTD, (12); of a part of a micro-batch, its share of J."""
        if (self.teacher is None and self._perception is None) or not self._training:
            return super()._compute_loss(model, inputs) * self._rl_share
        head = self.teacher.head() if self.teacher is not None and self._tutored_tokens else None
        self._scoring = ScoringModel(
            model,
            inputs["completion_ids"].size(1),
            self.temperature,
            self.args.divergence,
            inputs.get(TUTORING),
            head if self.args.tutoring_use == "loss" else None,
            self.args.head == "dense",
        )
        try:
            loss = super()._compute_loss(model, self._free_tutored_groups_of_kl(inputs))
            (scored,) = self._scoring.scored
        finally:
            self._scoring = self._kl_free = None
        if self._perception is not None:
            loss = loss + self._perception.loss(model, inputs, scored)
        loss = loss * self._rl_share
        if head is None or self._rl_share == 0:
            return loss
        distance = self._distance(scored, head, inputs)
        if distance is None:
            return loss
        share = tutoring_loss(distance, self._tutored_tokens, processes=self.accelerator.num_processes)
        progress = self.state.global_step / max(self.state.max_steps, 1)
        weight = scheduled(self.args.tutoring_weight, self.args.tutoring_schedule, progress)
        return loss + weight * share

    def _distance(self, scored: ScoredTokens, head: HeadWeights, inputs: dict[str, Any]) -> Tensor | None:
        """Return [n], how far the micro-batch's tutored tokens are from the teacher; ``None`` if there are none."""
        read = [record.teacher for record in inputs[TUTORING] if record.teacher is not None]
        if not read:
            return None
        rows = torch.tensor([record.tokens > 0 for record in inputs[TUTORING]], device=scored.log_probs.device)
        tutored = rows.unsqueeze(1) & inputs["completion_mask"].bool()
        beside = scored.beside
        if self.args.tutoring_use == "advantage":
            sampled = inputs["completion_ids"][tutored].unsqueeze(-1)
            teacher = concatenate(read).to(sampled.device).with_head(*head).log_probs_at(sampled).squeeze(-1)
            beside = replace(beside, divergence=sampled_distillation(scored.log_probs[tutored], teacher))
        assert beside.divergence is not None
        self._sums.add(beside)
        self._log_example(inputs, beside.divergence)
        clip, old = self.args.tutoring_ratio_clip, inputs.get("old_per_token_logps")
        if clip is None or old is None:
            return beside.divergence
        return beside.divergence * ratio_weights(scored.log_probs[tutored], old[tutored], clip)

    def _log_example(self, inputs: dict[str, Any], divergence: Tensor) -> None:
        """Write the micro-batch's rollout furthest from its teacher, once per ``example_steps``."""
        step, every = self.state.global_step + 1, self.args.example_steps
        due = every > 0 and step % every == 0 and step != self._example_step
        if not due or not self.accelerator.is_main_process:
            return
        example = pick_example(step, inputs[TUTORING], inputs["completion_ids"], divergence, self._tokenizer)
        if example is not None:
            append_example(str(self.args.output_dir), example)
            self._example_step = step

    def _free_tutored_groups_of_kl(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """With ``tutoring_keep_kl=False``, have scoring overwrite the reference of tutored groups."""
        if self.teacher is None or self.args.tutoring_keep_kl or "ref_per_token_logps" not in inputs:
            return inputs
        reference = inputs["ref_per_token_logps"].clone()
        rows = torch.tensor([record.in_tutored_group for record in inputs[TUTORING]], device=reference.device)
        self._kl_free = (reference, rows)
        return {**inputs, "ref_per_token_logps": reference}

    def _log_step(self) -> None:
        seconds = self._clock.take()
        prepare = seconds.pop("prepare", 0.0)
        seconds["update"] = seconds.pop("step", 0.0) - prepare
        seconds["score"] = prepare - sum(seconds.get(part, 0.0) for part in ("generate", "reward", "teacher"))
        for part in ("generate", "reward", "teacher", "score", "update"):
            self._metrics["train"][f"seconds/{part}"].append(max(seconds.get(part, 0.0), 0.0))
        if self.teacher is None:
            return
        sums = self._summed(self._sums.as_tensor(self.accelerator.device))
        self._sums = TutoringSums()
        tokens = max(sums[0].item(), 1.0)
        # Neither the full vocabulary nor sampled tokens have a support to overlap and a tail.
        names = ("divergence", "topk_overlap", "tail_mass/student", "tail_mass/teacher")
        kept = 1 if self.args.tutoring_support == "full" or self.args.tutoring_use == "advantage" else len(names)
        for name, value in list(zip(names, sums[1:].tolist(), strict=True))[:kept]:
            self._metrics["train"][name].append(value / tokens)

    # -- small helpers -----------------------------------------------------------------------------------------

    @property
    def _training(self) -> bool:
        return self.model is not None and self.model.training

    def _gathered(self, values: Tensor) -> Tensor:
        """Return the values of all processes, in process order."""
        return cast(Tensor, self.accelerator.gather(values))

    def _summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return cast(Tensor, self.accelerator.reduce(values, reduction="sum"))
