"""What TRL's tests would fetch from a hub, made on the spot under the same names: tiny models and their data sets.

Models have TRL's chat templates (from the installed package) and tokenizers that are trained here, on the tests'
source. The data sets, and the model with code of its own, come from TRL's scripts in the given checkout.
"""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import torch
import transformers
from datasets import DatasetDict

from tests import tiny_families
from tests.tutor.test_rendered import template_named

ORGANIZATION = "trl-internal-testing"
_TEXT = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
_MLP = {**_TEXT, "intermediate_size": 32}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
# Name -> configuration, its changes, chat template.
TEXT = {
    "tiny-Cohere2ForCausalLM": ("Cohere2Config", {"logit_scale": 1.0}, "cohere2"),
    "tiny-Gemma2ForCausalLM": ("Gemma2Config", {"head_dim": 8}, "gemma"),
    "tiny-Glm4MoeForCausalLM": ("Glm4MoeConfig", {"n_routed_experts": 4, "head_dim": 8, **_EXPERTS}, "glm4moe"),
    "tiny-GptOssForCausalLM": ("GptOssConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}, "gptoss"),
    "tiny-LlamaForCausalLM-3.2": ("LlamaConfig", {}, "llama3_2"),
    "tiny-MistralForCausalLM-0.2": ("MistralConfig", {}, "mistral"),
    "tiny-NemotronHForCausalLM-nano": (
        "NemotronHConfig",
        {
            "layers_block_type": ["mamba", "attention", "moe"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 4,
            "mamba_n_groups": 1,
            "ssm_state_size": 16,
            "n_routed_experts": 4,
            "moe_shared_expert_intermediate_size": 32,
            "use_mamba_kernels": False,
            **_EXPERTS,
        },
        "nemotron_3_nano",
    ),
    "tiny-Qwen2ForCausalLM-2.5": ("Qwen2Config", {}, "qwen2_5"),
    "tiny-Qwen3ForCausalLM": ("Qwen3Config", {}, "qwen3"),
    "tiny-Qwen3MoeForCausalLM": ("Qwen3MoeConfig", {"num_experts": 4, **_EXPERTS}, "qwen3"),
}
REWARD_MODELS = {
    "tiny-LlamaForSequenceClassification-3.2": ("LlamaConfig", "llama3_2"),
    "tiny-Qwen2ForSequenceClassification-2.5": ("Qwen2Config", "qwen2_5"),
    "tiny-Qwen3ForSequenceClassification": ("Qwen3Config", "qwen3"),
}
# Name -> family of ``tests.tiny_families``, chat template.
VISION = {
    "tiny-Gemma3ForConditionalGeneration": ("gemma3", "gemma3"),
    "tiny-Gemma4ForConditionalGeneration": ("gemma4", "gemma4"),
    "tiny-LlavaForConditionalGeneration": ("llava", "llava_next"),
    "tiny-LlavaNextForConditionalGeneration": ("llava_next", "llava_next"),
    "tiny-Qwen2VLForConditionalGeneration": ("qwen2_vl", "qwen2_5_vl"),
    "tiny-Qwen2_5_VLForConditionalGeneration": ("qwen2_5_vl", "qwen2_5_vl"),
    "tiny-Qwen3_5ForConditionalGeneration-NoThink": ("qwen3_5", "qwen3_5_nothink"),
    "tiny-Qwen3_5MoeForConditionalGeneration-3.6": ("qwen3_5_moe", "qwen3_6"),
    "tiny-SmolVLMForConditionalGeneration": ("smolvlm", "smolvlm"),
}
DATA_SCRIPTS = ("generate_zen_dataset", "generate_zen_image_dataset", "generate_zen_multi_image_dataset")
# As many of their rows are kept: most tests go over them three times, in three arms.
ROWS = 6
REMOTE = "tiny-RemoteForCausalLM"


def make_hub(folder, checkout):
    """Make all of it under a folder, from which ``trl-internal-testing/NAME`` is then a path.

    Args:
        folder: where.
        checkout: a work tree of TRL, which has the scripts.
    """
    home = Path(folder) / ORGANIZATION
    words = (Path(checkout) / "tests" / "test_grpo_trainer.py").read_text()
    for name, (kind, changes, template) in TEXT.items():
        _save_text(home / name, kind, {**_MLP, **changes}, tokenizer_with(template, words))
    for name, (kind, template) in REWARD_MODELS.items():
        _save_text(home / name, kind, {**_MLP, "num_labels": 1}, tokenizer_with(template, words))
    for name, (family, template) in VISION.items():
        _save_vision(home / name, family, template, words)
    sys.path.insert(0, str(checkout))
    _save_remote(home / REMOTE, Path(checkout), tokenizer_with("llama3_2", words))
    for script in DATA_SCRIPTS:
        _save_data(Path(folder), script)


def tokenizer_with(template, words):
    """Return a tokenizer with a template of TRL's, whose markers are tokens of their own."""
    tokenizer = tiny_families.make_tokenizer("llama", template_named(template), words, size=1_200)
    tokens = {*re.findall(r"<\|?/?[a-z_]+\|?>", template_named(template))}
    tokenizer.add_tokens(sorted(tokens - {*tokenizer.get_vocab()}))
    return tokenizer


def _save_text(folder, kind, changes, tokenizer):
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = getattr(transformers, kind)(vocab_size=len(tokenizer), **ends, **changes)
    auto = "AutoModelForSequenceClassification" if "num_labels" in changes else "AutoModelForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5.0)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_vision(folder, family, template, words):
    tiny_families.save_vision_model(folder, family, words=words, size=1_200)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    processor.chat_template = processor.tokenizer.chat_template = template_named(template)
    processor.save_pretrained(folder)


def _save_remote(folder, checkout, tokenizer):
    code = checkout / "scripts" / "generate_tiny_models" / "for_causal_lm" / "_remote_code"
    _save_text(folder, "LlamaConfig", _MLP, tokenizer)
    for file in code.glob("*_remote.py"):
        shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "remote",
        "architectures": ["RemoteForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_remote.RemoteConfig",
            "AutoModelForCausalLM": "modeling_remote.RemoteForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))


def _save_data(folder, script):
    """Run one of TRL's scripts, with files in the place of a hub."""
    made = {}

    def keep(data, repo, config_name):
        made.setdefault(repo, []).append(config_name)
        for split, rows in data.items():
            path = folder / repo / config_name / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.select(range(min(ROWS, len(rows)))).to_parquet(path)

    module = importlib.import_module(f"scripts.{script}")
    with patch.object(DatasetDict, "push_to_hub", keep):
        module.main(0.1, True, module.ScriptArguments().repo_id)
    for repo, configs in made.items():
        lines = ["---", "configs:"]
        for config in configs:
            lines += [f"- config_name: {config}", "  data_files:"]
            lines += [f"  - split: {split}\n    path: {config}/{split}.parquet" for split in ("train", "test")]
        (folder / repo / "README.md").write_text("\n".join([*lines, "---", ""]))
