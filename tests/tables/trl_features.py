"""What TRL's trainer can do, feature by feature: ``python -m tests.tables.trl_features [NAME ...]`` prints the table.

Each feature runs a step or two of a tiny model in three ways: TRL's own trainer, ``PTDTrainer`` with lambda 0, and with
tutoring. A cell says ``yes``, or the first line of what was raised.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial

import datasets
import torch
import transformers
from peft import IA3Config, LoraConfig
from transformers import AutoModelForSequenceClassification, Qwen2Config
from trl import GRPOConfig, GRPOTrainer

from ptdpo.models import load_model, load_processor
from ptdpo.train import PTDConfig, PTDTrainer
from tests import tiny_families
from tests.train.helpers import small_settings
from tests.train.test_text import ROWS
from tests.train.test_tools import turns

ARMS = ("TRL", "lambda 0", "tutoring")
LOSSES = ("grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo")


def right(completions, **_):
    return [float(n % 3 == 0) for n in range(len(completions))]


def length(completions, **_):
    return [len(one if isinstance(one, str) else one[0]["content"]) / 10 for one in completions]


async def waiting(completions, **_):
    return right(completions)


def partly(completions, **_):
    return [None if n % 4 == 0 else 1.0 for n in range(len(completions))]


def half_ended(prompts, trainer):
    """Rollouts of which every second one ends before it is cut off."""
    made, end = turns(prompts, trainer), trainer.processing_class.eos_token_id
    for n in range(0, len(prompts), 2):
        made["completion_ids"][n][-1] = end
    return made


class Board:
    """An environment that says what it hides, and rewards nothing."""

    def reset(self, **_) -> str:
        return " The board is ready."

    def look(self, cell: int) -> str:
        """Return what stands in a cell.

        Args:
            cell: its number.
        """
        return "red"


class Bag(Board):
    """Another environment, with a tool of another name."""

    look = None

    def draw(self, cell: int) -> str:
        """Draw what lies in a bag.

        Args:
            cell: its place.
        """
        return "blue"


def tool(cell: int) -> str:
    """Return what stands in a cell.

    Args:
        cell: its number.
    """
    return "red"


@dataclass
class Feature:
    """What a run of a feature needs: settings, arguments of the trainer, rows, rewards, and what is done with it."""

    settings: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)
    rows: list = field(default_factory=lambda: ROWS)
    rewards: object = right
    model: str = "qwen2"
    instance: bool = False
    streamed: bool = False
    act: str = "train"


def features(reward_model):
    plain = [{**row, "prompt": row["prompt"][0]["content"]} for row in ROWS]
    parts = [
        {**row, "prompt": [{"role": "user", "content": [{"type": "text", "text": row["prompt"][0]["content"]}]}]}
        for row in ROWS
    ]
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    dora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_dora=True)
    ia3 = IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    qwen3 = {"model": "qwen3_tools"}
    return {
        "one reward": Feature(),
        "asynchronous reward": Feature(rewards=waiting),
        "several weighted rewards": Feature({"reward_weights": [0.7, 0.3]}, rewards=[right, length]),
        "a reward that grades some": Feature(rewards=[right, partly]),
        "reward model": Feature(
            {"accuracy_reward": "right"},
            {"reward_processing_classes": [reward_model[1], None]},
            rewards=[reward_model[0], right],
        ),
        "LoRA": Feature(arguments={"peft_config": lora}),
        "DoRA": Feature(arguments={"peft_config": dora}),
        "IA3": Feature(arguments={"peft_config": ia3}),
        **{f"loss_type={name}": Feature({"loss_type": name}) for name in LOSSES},
        "num_iterations=2": Feature({"num_iterations": 2, "max_steps": 2}),
        "sequence importance sampling": Feature({"importance_sampling_level": "sequence"}),
        "entropy mask": Feature({"top_entropy_quantile": 0.5}),
        "beta": Feature({"beta": 0.1}),
        "sync_ref_model": Feature({"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}),
        "delta": Feature({"delta": 2.0}),
        "scale_rewards=batch": Feature({"scale_rewards": "batch"}),
        "mask_truncated_completions": Feature({"mask_truncated_completions": True}, {"rollout_func": half_ended}),
        "top_k, min_p, repetition_penalty": Feature({"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}),
        "generation_kwargs": Feature({"generation_kwargs": {"no_repeat_ngram_size": 3}}),
        "pad_to_multiple_of": Feature({"pad_to_multiple_of": 8}),
        "log_completions": Feature({"log_completions": True}),
        "cast_lm_head_to_fp32": Feature({"cast_lm_head_to_fp32": True}),
        "gradient checkpointing": Feature({"gradient_checkpointing": True}),
        "a model instance": Feature(instance=True),
        "plain text prompts": Feature(rows=plain),
        "content parts": Feature(rows=parts),
        "chat_template_kwargs": Feature({"chat_template_kwargs": {"enable_thinking": False}}, **qwen3),
        "checkpoint and resume": Feature({"save_strategy": "steps", "save_steps": 1, "max_steps": 2}, act="resume"),
        "evaluation": Feature({"eval_strategy": "steps", "eval_steps": 1}, act="evaluate"),
        "eval_on_start": Feature({"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 1}, act="evaluate"),
        "evaluate() before train()": Feature(act="evaluate first"),
        "iterable data": Feature(streamed=True),
        "tools": Feature(arguments={"tools": [tool]}, **qwen3),
        "environment": Feature(arguments={"environment_factory": Board}, **qwen3),
        "several environments": Feature(
            arguments={"environment_factory": {"boards": Board, "bags": Bag}},
            rows=[{**row, "environment": ("boards", "bags")[n % 2]} for n, row in enumerate(ROWS)],
            **qwen3,
        ),
        "rollout_func": Feature(arguments={"rollout_func": turns}),
        "mixture of experts": Feature({"router_aux_loss_coef": 0.1}, model="qwen3_moe"),
    }


def run(feature, arm, path, folder):
    settings = {**small_settings(), "max_steps": 1, "logging_steps": 1, "output_dir": folder, **feature.settings}
    data = datasets.Dataset.from_list(feature.rows)
    arguments = {**feature.arguments, "reward_funcs": feature.rewards}
    arguments["train_dataset"] = data.to_iterable_dataset() if feature.streamed else data
    if feature.act.startswith("evaluate"):
        arguments["eval_dataset"] = data
        settings["per_device_eval_batch_size"] = 4
    model = load_model(path) if feature.instance else path
    if arm == "TRL":
        settings.pop("accuracy_reward", None)
        trainer = GRPOTrainer(model, args=GRPOConfig(**settings), processing_class=load_processor(path), **arguments)
    else:
        weight = 0.5 if arm == "tutoring" else 0.0
        trainer = PTDTrainer(model, args=PTDConfig(tutoring_weight=weight, tutoring_k=10, **settings), **arguments)
    if feature.act == "evaluate first":
        trainer.evaluate()
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses, "nothing was logged"
    assert all(loss == loss for loss in losses), "the loss is not a number"
    if arm == "tutoring":
        assert max(line.get("tutored/rollouts", 0) for line in trainer.state.log_history) > 0, "nothing was tutored"
    if feature.act == "resume":
        trainer.args.max_steps = 2
        trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-1")


def cell(feature, arm, path):
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(feature, arm, path, folder)
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), "")
            return f"{type(error).__name__}: {first[:120]}".replace("|", "/")
    return "yes"


def make_models(folder):
    from tests.tutor.test_rendered import template_named

    make = partial(tiny_families.save_text_model)
    paths = {
        "qwen2": make(f"{folder}/qwen2", "qwen2"),
        "qwen3_tools": make(f"{folder}/qwen3", "qwen3", template_named("qwen3")),
        "qwen3_moe": make(f"{folder}/moe", "qwen3_moe", output_router_logits=True),
    }
    tokenizer = load_processor(paths["qwen2"])
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, num_labels=1,
                         pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    return paths, (AutoModelForSequenceClassification.from_config(config), tokenizer)


def main(names):
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths, reward_model = make_models(folder)
        print("| feature | " + " | ".join(ARMS) + " |\n" + "|---" * (len(ARMS) + 1) + "|", flush=True)
        for name, feature in features(reward_model).items():
            if not names or name in names:
                cells = [cell(feature, arm, paths[feature.model]) for arm in ARMS]
                print("| " + " | ".join([name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
