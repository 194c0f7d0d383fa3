"""vLLM rollouts that are right: faults that TRL 1.16 and vLLM have together, mended where the two meet.

1. Colocated, TRL hands vLLM prompts whose image tokens stand for every patch already, and vLLM expands them once more:
   the policy would answer a prompt that it is never scored on. Here every image is one token again before the call.
2. After an update of the weights vLLM goes on with the images as the old weights encoded them. Here that cache is
   emptied whenever weights are sent.
3. The ban on special tokens reaches transformers' ``generate`` only. A sampled image token would later be taken for an
   image without features. Here it reaches vLLM too, and without the ban a sampled image token is refused by name.
4. From vLLM 0.32 on a server names the tokens of prompts with images by number, where TRL's client reads words: each
   gets the word that the client looks for.

A mend that is not needed does nothing: prompts without runs stay as they are, an empty cache is emptied.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

from transformers import ProcessorMixin
from trl import GRPOTrainer

from ptdpo.models.family import RUNS_OF_IMAGE_TOKENS, image_token
from ptdpo.models.sampling import banned_token_ids
from ptdpo.train.setting_checks import truncates
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.engine_check import EngineCheck

# The least that vLLM takes for a bias: exp(-100) of the probability is never sampled.
_BANNED_BIAS = -100.0

PromptIds = Sequence[Sequence[int]]
Images = Sequence[Sequence[Any] | None] | None


class VllmGeneration(Protocol):
    """What is used of TRL's ``VLLMGeneration``."""

    mode: str
    generation_kwargs: dict[str, Any]
    generate: Callable[..., tuple]
    sync_weights: Callable[[], None]
    vllm_client: Any


def mend_vllm(
    generation: VllmGeneration, *, model_type: str, image_token_id: int | None, banned: Sequence[int]
) -> None:
    """Mend the generation of a trainer in place.

    Args:
        generation: TRL's, set up.
        model_type: of the policy.
        image_token_id: what stands for images in prompts; ``None``: the policy reads no images.
        banned: ids that are never sampled.
    """
    if banned:
        bias = dict.fromkeys(banned, _BANNED_BIAS)
        given = generation.generation_kwargs.get("logit_bias") or {}
        generation.generation_kwargs["logit_bias"] = {**given, **bias}
    # Only the first process has a client.
    if generation.mode == "server" and getattr(generation, "vllm_client", None) is not None:
        _name_tokens(generation.vllm_client)
    if image_token_id is None:
        return
    generate, sync = generation.generate, generation.sync_weights

    @wraps(generate)
    def with_single_image_tokens(prompts: PromptIds, images: Images, *args: Any, **kwargs: Any) -> tuple:
        own = None if images is None else [list(row) if row else None for row in images]
        if own is None or not any(own):
            own, given = None, prompts
        elif generation.mode != "colocate":
            # The server's client finds the images in expanded prompts itself.
            given = prompts
        else:
            given = [
                one_token_per_image(ids, image_token_id, len(row or ()), model_type)
                for ids, row in zip(prompts, own, strict=True)
            ]
        returned, responses, *rest = generate(given, own, *args, **kwargs)
        refuse_image_tokens(responses, image_token_id)
        return (returned if given is prompts else prompts), responses, *rest

    @wraps(sync)
    def and_forget_images() -> None:
        sync()
        forget_encoded_images(generation)

    generation.generate, generation.sync_weights = with_single_image_tokens, and_forget_images


def _name_tokens(client: Any) -> None:
    post = client._post

    @wraps(post)
    def named(url: str, **kwargs: Any) -> Any:
        return with_token_names(post(url, **kwargs))

    client._post = named


def with_token_names(answer: Any) -> Any:
    """Return a server's answer whose log-probabilities say ``token`` also where they say ``token_id`` alone."""
    for choice in answer.get("choices", ()) if isinstance(answer, dict) else ():
        scored = choice.get("logprobs") or {}
        for entry in scored.get("content") or ():
            for each in (entry, *(entry.get("top_logprobs") or ())):
                if "token_id" in each:
                    each.setdefault("token", f"token_id:{each['token_id']}")
    return answer


def one_token_per_image(ids: Sequence[int], image_token_id: int, images: int, model_type: str) -> list[int]:
    """Return a prompt in which each run of image tokens is one token.

    Args:
        ids: the prompt as the policy is scored on it.
        image_token_id: of which the runs are made.
        images: how many there are.
        model_type: of the policy.

    Raises:
        ValueError: if the family writes images otherwise, or there are more or fewer runs than images.
    """
    if images and model_type not in RUNS_OF_IMAGE_TOKENS:
        raise ValueError(
            f"use_vllm=True with vllm_mode=colocate: how prompts with images reach vLLM is not known for model type "
            f"{model_type!r} (known: {', '.join(RUNS_OF_IMAGE_TOKENS)}): use vllm_mode=server, or use_vllm=False"
        )
    collapsed: list[int] = []
    runs = 0
    for token, run in itertools.groupby(ids):
        if token == image_token_id:
            runs += 1
            collapsed.append(token)
        else:
            collapsed += run
    if runs != images:
        raise ValueError(
            f"a prompt has {runs} runs of image tokens but {images} image{'s' if images != 1 else ''}: two images "
            "without anything between them look like one, and an image token in the text like another; mend the row or "
            "the chat template"
        )
    return collapsed


def refuse_image_tokens(responses: PromptIds, image_token_id: int) -> None:
    """Refuse responses that hold a token which stands for an image: scoring would look for that image.

    Raises:
        ValueError: says how to prevent it.
    """
    for number, ids in enumerate(responses):
        if image_token_id in ids:
            raise ValueError(
                f"response {number}: vLLM sampled an image token (id {image_token_id}, place "
                f"{list(ids).index(image_token_id)}), and there is no image for it: set ban_special_tokens=true, or "
                "take the bias off that token in generation_kwargs"
            )


def forget_encoded_images(generation: Any) -> None:
    """Empty the cache of encoded images, whose vision tower has just changed.

    Raises:
        ValueError: if the server does not offer it.
    """
    if generation.mode == "colocate":
        generation.llm.llm_engine.reset_encoder_cache()
    elif generation.accelerator.is_main_process:
        client = generation.vllm_client
        answer = client.session.post(f"{client.base_url}/reset_encoder_cache")
        if answer.status_code != 200:
            raise ValueError(
                f"the vLLM server at {client.base_url} does not empty its cache of encoded images "
                f"(POST /reset_encoder_cache gave {answer.status_code}): it would go on with images as the first "
                "weights encoded them. Start it with VLLM_SERVER_DEV_MODE=1"
            )


def set_up_vllm(trainer: GRPOTrainer, args: PTDConfig) -> EngineCheck:
    """Mend a trainer's generation, and return what compares it with the trainer."""
    config: Any = trainer.accelerator.unwrap_model(trainer.model).config
    reads_images = isinstance(trainer.processing_class, ProcessorMixin)
    banned = banned_token_ids(trainer._tokenizer, trainer.eos_token_ids) if args.ban_special_tokens else []
    mend_vllm(
        trainer.vllm_generation,
        model_type=config.model_type,
        image_token_id=image_token(config) if reads_images else None,
        banned=banned,
    )
    mode = args.vllm_importance_sampling_mode if args.vllm_importance_sampling_correction else None
    return EngineCheck(check_limit(args), mode, lambda token: str(trainer._tokenizer.decode([token])))


def check_limit(args: PTDConfig) -> float | None:
    """Return the mean difference in nats above which training stops; ``None``: it never does.

    Without a setting: 0.02 where numbers are half precision or the engine's distribution is truncated, else 0.002.
    """
    if args.engine_check_nats is not None:
        return args.engine_check_nats or None
    return 0.02 if args.bf16 or args.fp16 or truncates(args) else 0.002
