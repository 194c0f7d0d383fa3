"""A short training run with rollouts of vLLM, and how far engine and trainer were apart in it."""

from dataclasses import dataclass

import datasets
import torch
from PIL import Image

from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.trl import engine_check
from tests.train.helpers import SGD, Alternating, small_settings

SIZES = {"a": (48, 48), "b": (64, 48), "c": (32, 80)}
SHOWN = {"text": ["", ""], "image": ["a", "b"], "several": ["ab", "cab"], "mixed": ["a", ""]}


def noise(name):
    """An image of noise, the same in every run."""
    size = SIZES[name]
    generator = torch.Generator().manual_seed(ord(name))
    numbers = torch.randint(0, 256, (*size[::-1], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(numbers.numpy())


def rows_of(shown):
    """Return two rows: which images each shows is said by ``SHOWN``."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is in the top row? {n}"}],
            "answer": "7",
            "hint": {"look": "at the first", "reason": f"red is {n}"},
            "images": [noise(name) for name in names],
        }
        for n, names in enumerate(SHOWN[shown])
    ]
    if shown == "text":
        return datasets.Dataset.from_list([{key: row[key] for key in row if key != "images"} for row in rows])
    text = datasets.Value("string")
    return datasets.Dataset.from_list(
        rows,
        features=datasets.Features(
            {
                "prompt": [{"role": text, "content": text}],
                "answer": text,
                "hint": {"look": text, "reason": text},
                "images": datasets.List(datasets.Image()),
            }
        ),
    )


def start_plainly(monkeypatch, engines):
    """Have TRL start vLLM in float32, not compiled, and once per model; ``engines`` keeps them."""
    from trl.generation import vllm_generation
    from vllm import LLM
    from vllm.model_executor.layers import utils

    def with_plain_products(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    def one_per_model(model, **settings):
        key = (model, settings["max_model_len"])
        if key not in engines:
            engines[key] = LLM(model=model, **settings, dtype="float32", enforce_eager=True)
        return engines[key]

    # The CPU kernels keep weights in a form of their own, and load no others afterwards.
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", with_plain_products)
    monkeypatch.setattr(vllm_generation, "LLM", one_per_model)


@dataclass(frozen=True)
class Compared:
    """What engine and trainer said of the same tokens.

    Attributes:
        sampled: [n], log-probabilities of the engine.
        scored: [n], of the trainer.
        ids: [n], the tokens.
    """

    sampled: torch.Tensor
    scored: torch.Tensor
    ids: torch.Tensor

    @property
    def mean(self):
        """Return the mean distance in nats."""
        return (self.sampled - self.scored).abs().mean().item()


class Run:
    """Trains when it is made.

    Attributes:
        trainer: afterwards.
        responses: the ids of all.
        found: by when, what was compared first: "at the start", "after the first update", "now".
    """

    def __init__(self, path, rows, folder, monkeypatch, peft_config=None, prepare=None, **settings):
        self.found = {}
        monkeypatch.setattr(engine_check, "check_agreement", self._kept(engine_check.check_agreement))
        settings = {
            **small_settings(), **SGD, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
            "max_steps": 2, "max_completion_length": 16, "tutoring_k": 10, "use_vllm": True, "vllm_mode": "colocate",
            "vllm_max_model_length": 256, **settings,
        }  # fmt: skip
        args = PTDConfig.from_preset("ptd-grpo", output_dir=str(folder), **settings)
        trainer = self.trainer = PTDTrainer(path, Alternating(3), args, train_dataset=rows, peft_config=peft_config)
        self.responses = []
        generate = trainer.vllm_generation.generate
        trainer.vllm_generation.generate = lambda *args, **kwargs: self._seen(generate(*args, **kwargs))
        if prepare is not None:
            prepare(trainer)
        trainer.train()

    def _seen(self, rollouts):
        self.responses += rollouts[1]
        return rollouts

    def _kept(self, check):
        def kept(*arguments, **settings):
            tokens = arguments[2].bool()
            sampled, scored, _, ids = (values[tokens] for values in arguments)
            self.found.setdefault(settings["when"], Compared(sampled, scored, ids))
            return check(*arguments, **settings)

        return kept
