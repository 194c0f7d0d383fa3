"""Whose weights teach: the frozen start, the current policy, its moving average, or another model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, TrainerCallback, TrainerState
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter

from ptdpo.models.adapters import refuse_adapter
from ptdpo.models.loading import load_processor
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.reference import check_reference, load_for_scoring, origin_of
from ptdpo.train.trl.turns import template_of
from ptdpo.tutor.head import add_scoring_head
from ptdpo.tutor.teacher import Teacher

EMA_FILE = "ema_teacher.safetensors"


def teacher_named(
    args: PTDConfig, trainer: GRPOTrainer, given_model: Any, *, given_adapter: bool, share_prefix: bool
) -> Teacher:
    """Return the teacher whose weights ``args.tutoring_teacher`` names.

    Args:
        args: the settings.
        trainer: the trainer, set up by TRL.
        given_model: the model it was given.
        given_adapter: that model came with an adapter of its own.
        share_prefix: a model of its own reads a prompt that several rows share once.

    Raises:
        ValueError: if the frozen weights would not be those of the start, or the moving average cannot be kept with
            this engine.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    weights: Callable[[], Any] = nullcontext
    kind = args.tutoring_teacher
    if kind == "ema" and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError("tutoring_teacher=ema: a moving average under FSDP or DeepSpeed is not supported yet")
    if kind == "frozen" and given_adapter and "ref" not in policy.peft_config:
        raise ValueError(
            "the model came with an adapter, and without a reference KL nothing keeps a frozen copy of it: merge the "
            "adapter into the model first, or set beta > 0"
        )
    if kind == "current":
        model, unwrapped = trainer.model, policy
    elif kind == "ema" and is_peft_model(policy):
        model, unwrapped = trainer.model, policy
        average = MovingAverage(policy, args.tutoring_ema_rate, interval=args.tutoring_ema_interval)
        trainer.add_callback(average)
        weights = average.borrowed
    elif kind == "frozen" and is_peft_model(policy):
        model, unwrapped = trainer.model, policy
        weights = partial(use_adapter, policy, "ref" if "ref" in policy.peft_config else None)
    elif kind == "frozen" and trainer.ref_model is not None:
        model = trainer.ref_model
        unwrapped = trainer.accelerator.unwrap_model(model)
    else:
        model = load_for_scoring(trainer, args.other_teacher)
        unwrapped = trainer.accelerator.unwrap_model(model)
        add_scoring_head(unwrapped, share_prefix=share_prefix)
    if kind in ("frozen", "ema") and not is_peft_model(policy) and not isinstance(given_model, str):
        check_reference(policy, unwrapped)
    if kind == "ema" and not is_peft_model(policy):
        trainer.add_callback(MovingAverage(policy, args.tutoring_ema_rate, unwrapped, args.tutoring_ema_interval))
    return Teacher(
        model,
        unwrapped,
        trainer.processing_class,
        micro_batch=args.teacher_batch_size or args.per_device_train_batch_size,
        k=1 if args.tutoring_support == "full" else args.tutoring_k,
        temperature=trainer.temperature,
        weights=weights,
        # These weights move before the loss is computed: what was read needs the head that read it.
        keep_head=kind in ("current", "ema"),
        template=template_of(trainer),
        with_entropy=args.reads_teacher_entropy,
    )


def check_vocabulary(args: PTDConfig, processor: Any, model: Any) -> None:
    """Refuse more ids than there are, and another model as teacher whose vocabulary is not the policy's.

    Args:
        args: the settings, of which ``other_teacher`` names it.
        processor: the policy's.
        model: the policy or its path.

    Raises:
        ValueError: if K exceeds the head; if the tokenizers differ, or the heads where whole distributions are
            compared: the teacher's would be over other tokens.
    """
    if args.tutors:
        _check_k(args, model)
    path = args.other_teacher
    if path is None:
        return
    refuse_adapter(path, "tutoring_teacher")
    try:
        theirs = load_processor(path, **origin_of(args, path))
    except OSError as error:
        raise ValueError(
            f"tutoring_teacher={path!r}: neither frozen, current or ema nor a model that can be loaded "
            f"({' '.join(str(error).split())})"
        ) from error
    mine, other = (getattr(p, "tokenizer", p).get_vocab() for p in (processor, theirs))
    if mine != other:
        differing = len({*mine.items()} ^ {*other.items()})
        raise ValueError(
            f"tutoring_teacher={path}: its tokenizer is not the policy's ({differing} entries differ); choose a "
            "teacher of the same family"
        )
    ids = [_ids(path, **origin_of(args, path)), _ids(model, **origin_of(args))]
    if ids[0] != ids[1] and args.tutoring_use == "loss":
        raise ValueError(
            f"tutoring_teacher={path}: its head has {ids[0]} ids, the policy's {ids[1]}, though their tokenizers are "
            "one: such distributions cannot be compared; choose a teacher of the same size of head, or "
            "tutoring_use=advantage"
        )


def _check_k(args: PTDConfig, model: Any) -> None:
    reads_k = args.tutoring_use == "loss" and args.tutoring_support != "full"
    ids = _ids(model, **origin_of(args)) if reads_k else 0
    if reads_k and args.tutoring_k > ids:
        raise ValueError(
            f"tutoring_k={args.tutoring_k}: the model's head has only {ids} ids; set tutoring_support=full to "
            "compare all of them"
        )


def _ids(model: Any, **origin: Any) -> int:
    """Return how many ids the head of a model, or of that at a path, has."""
    config = AutoConfig.from_pretrained(model, **origin) if isinstance(model, str) else model.config
    return config.get_text_config().vocab_size


class MovingAverage(TrainerCallback):
    """After an optimiser step: average <- average + rate (policy - average). Saved and resumed with checkpoints.

    The average is float32 whatever the models are: in bfloat16 small steps would round to none.

    Args:
        policy: the model in training.
        rate: how far the average goes towards it at each step.
        teacher: the model that has the average's weights; ``None``: the policy itself, whose trainable weights (an
            adapter) the average takes the place of while ``borrowed`` lasts.
        interval: it goes every so many optimiser steps.
    """

    def __init__(
        self, policy: torch.nn.Module, rate: float, teacher: torch.nn.Module | None = None, interval: int = 1
    ) -> None:
        self.policy, self.rate, self.teacher, self.interval = policy, rate, teacher, interval
        followed = (teacher or policy).named_parameters()
        self.average = {n: p.detach().float().clone() for n, p in followed if teacher is not None or p.requires_grad}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the average towards the policy, if it is time."""
        if state.global_step % self.interval:
            return
        for name, parameter in self.policy.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.to(self.average[name]), self.rate)
        if self.teacher is not None:
            self._put_into(self.teacher)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Give the policy the averaged weights for a while."""
        own = {name: p.detach().clone() for name, p in self.policy.named_parameters() if name in self.average}
        self._put_into(self.policy)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.policy.named_parameters():
                    if name in own:
                        parameter.copy_(own[name])

    @torch.no_grad()
    def _put_into(self, model: torch.nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name in self.average:
                parameter.copy_(self.average[name])

    def save_beside(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        save_file({name: value.cpu() for name, value in self.average.items()}, folder / EMA_FILE)

    @torch.no_grad()
    def restore(self, checkpoint: str) -> None:
        """Read the average from a checkpoint.

        Raises:
            ValueError: if the checkpoint has none: going on would start the average anew.
        """
        path = Path(checkpoint) / EMA_FILE
        if not path.is_file():
            raise ValueError(f"{checkpoint} holds no {EMA_FILE}: it was not written with tutoring_teacher=ema")
        for name, value in load_file(path).items():
            self.average[name].copy_(value)
        if self.teacher is not None:
            self._put_into(self.teacher)
