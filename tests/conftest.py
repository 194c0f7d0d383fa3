"""Shared fixtures: shape checks on, one thread, a tiny model and a few scenes made on the spot."""

import functools
import gc
import importlib.metadata
import os
import tempfile
from importlib.util import find_spec

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["PTDPO_CACHE"] = tempfile.mkdtemp(prefix="ptdpo-test-cache-")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

# Triton's kernels run as Python where there is no GPU; they are read before the hook below, which would change them.
if find_spec("triton") is not None:
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")
    import ptdpo.algo.kernels  # noqa: F401

from jaxtyping import install_import_hook

# Every annotated shape in the package is checked at run time while tests run.
install_import_hook(["ptdpo.algo", "ptdpo.tutor"], "beartype.beartype")

import pytest
import transformers
from hypothesis import settings
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm

# accelerate asks for a package's metadata some dozen times per step, and parses it anew each time.
importlib.metadata.metadata = functools.cache(importlib.metadata.metadata)
# Small objects come and go in numbers: searching for garbage less often saves a twentieth.
gc.set_threshold(50_000, 20, 100)
# transformers writes every configuration out for a log line that nobody reads: a tenth of a short training run.
transformers.PretrainedConfig.__repr__ = object.__repr__
settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SMALL = TinyVLMSettings(hidden=32, layers=2, heads=2, key_value_heads=1, vision_hidden=32, vision_heads=2)


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _nothing_old_is_searched_for_garbage():
    """Every training run collects garbage; among the million objects of what is imported that takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    rules = hidden_rules(0)
    return make_scenes(tmp_path_factory.mktemp("scenes"), "train", [(n, rules[n]) for n in NAMES * 4], seed=0)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory, scenes):
    texts = [f"{s.problem.problem} {s.hint.look} {s.hint.reason} {s.solution.response}" for s in scenes]
    folder = make_tiny_vlm(tmp_path_factory.mktemp("tiny-vlm"), texts, SMALL)
    # Fresh weights hardly react to their context; larger ones give the teacher something to say.
    model = load_model(str(folder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0 if "embed_tokens" in name else 3.0)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def qwen2_5_path(tmp_path_factory, tiny_path):
    """A tiny Qwen2.5-VL that reads with the tiny Qwen3-VL's processor."""
    tiny = AutoConfig.from_pretrained(tiny_path)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": tiny.text_config.vocab_size,
            "pad_token_id": tiny.text_config.pad_token_id,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": tiny.vision_config.patch_size,
            "out_hidden_size": 32,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        **{name: getattr(tiny, name) for name in names},
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = load_model(tiny_path).generation_config
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0 if "embed_tokens" in name else 3.0)
    folder = tmp_path_factory.mktemp("tiny-qwen2-5-vl")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def processor(tiny_path):
    return load_processor(tiny_path)


@pytest.fixture
def model(tiny_path):
    return load_model(tiny_path)


@pytest.fixture(scope="session")
def train_rows(scenes):
    hints = {s.problem.id: s.hint for s in scenes}
    return rl_dataset([s.problem for s in scenes], hints, instruction="")
