"""The table of families: ``python -m tests.tables.families [NAME ...]``, each cell tried on a tiny model.

Gemma 4 needs torchvision: ``tests/tables/with_torchvision.sh`` runs this in an environment of its own.
"""

import sys
import tempfile
from pathlib import Path

import datasets
import torch
import transformers
from peft import LoraConfig
from PIL import Image

from ptdpo.data.rendering import render
from ptdpo.models import load_model, load_processor
from ptdpo.models.family import without_empty_images
from ptdpo.models.reading import read_prompts
from ptdpo.models.shared_prefix import enable_shared_prefix
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.tutor.context import hinted_prompt, images_of
from ptdpo.tutor.teacher import Lesson
from tests import tiny_families
from tests.models.test_family import vision_batch
from tests.models.test_shared_prefix import assert_same, made_batch
from tests.train.helpers import Alternating, small_settings

COLUMNS = ("trains", "teacher exact", "LoRA", "PAPO mask", "shared prefix")
VISION_ONLY = ("PAPO mask",)
SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "weight_decay": 0.0}


def rows_of(name):
    """Four rows; of a family that sees, two with one image, one with two, one with none.

    TRL 1.16 takes images that are padded to rows for one image per row where their numbers happen to agree, so the last
    row of families that pad has an image.
    """
    one, other = (Image.effect_noise(size, 60).convert("RGB") for size in ((48, 48), (64, 48)))
    last = [one] if name in ("idefics3", "smolvlm") else []
    shown = [[one], [one, other], [other], last] if name in tiny_families.VISION else [[]] * 4
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is in the top row? {n}"}],
            "answer": "7",
            "hint": {"look": "at the first", "reason": f"red is {n}"},
            "images": images,
        }
        for n, images in enumerate(shown)
    ]
    if name in tiny_families.VISION:
        return datasets.Dataset.from_list(rows, features=_features(rows))
    return datasets.Dataset.from_list([{key: row[key] for key in row if key != "images"} for row in rows])


def _features(rows):
    text = datasets.Value("string")
    return datasets.Features(
        {
            "prompt": [{"role": text, "content": text}],
            "answer": text,
            "hint": {"look": text, "reason": text},
            "images": datasets.List(datasets.Image()),
        }
    )


def save(folder, name):
    if name in tiny_families.VISION:
        return tiny_families.save_vision_model(folder, name)
    # A window as narrow as other tests have it would hide the hint from the teacher.
    wide = {"sliding_window": 128} if "sliding_window" in tiny_families.TEXT_CONFIGS[name][1] else {}
    return tiny_families.save_text_model(folder, name, **wide)


def train(path, folder, rows, preset="ptd-grpo", peft_config=None, **settings):
    settings = {**small_settings(), **SGD, "max_steps": 1, "per_device_train_batch_size": 8, **settings}
    tutored = {"tutoring_k": 10} if preset.startswith("ptd") else {}
    args = PTDConfig.from_preset(preset, output_dir=str(folder), **tutored, **settings)
    trainer = PTDTrainer(path, Alternating(3), args, train_dataset=rows, peft_config=peft_config)
    trainer.train()
    return trainer


def moved(trainer, path):
    start = dict(load_model(path).named_parameters())
    now = dict(trainer.model.named_parameters())
    return max((now[name].detach() - start[name]).abs().max().item() for name in now)


def check_trains(name, path, folder):
    assert moved(train(path, folder, rows_of(name), rl_weight=0.0, beta=0.0), path) > 1e-5


def check_teacher(name, path, folder):
    """What the teacher leaves along two lessons of unequal length, against the whole model on each alone."""
    trainer, model = train(path, folder, rows_of(name), preset="ptd-grpo"), load_model(path).eval()
    processor = load_processor(path)
    rows = rows_of(name)
    responses = [torch.tensor([70, 71, 72]), torch.tensor([73])]
    lessons = [
        Lesson(hinted_prompt(rows[n]), images_of(rows[n]), ids) for n, ids in zip((0, 1), responses, strict=True)
    ]
    read = trainer.teacher.read(lessons, calls=trainer.teacher.calls_needed(2), filler=lessons[0])
    for lesson, record in zip(lessons, read, strict=True):
        assert "red is" in render(processor, lesson.messages, lesson.images)
        inputs = read_prompts(processor, [lesson.messages], [lesson.images])
        ids = lesson.response_ids[None]
        width = inputs["input_ids"].size(1)
        for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
            if key in inputs:
                tail = ids if key == "input_ids" else torch.full_like(ids, int(key == "attention_mask"))
                inputs[key] = torch.cat([inputs[key], tail], dim=1)
        with torch.no_grad():
            logits = model(**without_empty_images(inputs)).logits[0, width - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, ids.T)
        got = record.with_head(*trainer.teacher.head()).log_probs_at(ids.T)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def check_lora(name, path, folder):
    # Gemma 4's vision tower has layers of its own kind, which PEFT does not adapt.
    text_only = {"phi3": ["qkv_proj"], "gemma4": r".*language_model.*\.(q_proj|v_proj)"}
    lora = LoraConfig(r=2, target_modules=text_only.get(name, ["q_proj", "v_proj"]))
    trainer = train(path, folder, rows_of(name), peft_config=lora, rl_weight=0.0, beta=0.0)
    adapters = [p for n, p in trainer.model.named_parameters() if "lora_B" in n]
    assert adapters
    assert max(p.abs().max().item() for p in adapters) > 0


def check_papo(name, path, folder):
    off = {"perception_entropy_weight": 0.0, "masked_entropy_weight": 0.0, "rl_weight": 0.0, "beta": 0.0}
    settings = {"perception_weight": 1.0, "perception_masked": "current", **off}
    # Rows without an image have nothing to mask, and stand beside those that have.
    change = moved(train(path, folder, rows_of(name), preset="papo-printed", learning_rate=1e-3, **settings), path)
    assert 0 < change < float("inf"), f"parameters changed by {change}"


def check_shared(name, path, folder):
    """States and gradients of a packed row are those of the plain layout; training reads packed rows."""
    model = load_model(path).eval()
    if not enable_shared_prefix(model):
        raise NotImplementedError("plain layout")
    if name in tiny_families.VISION:
        one, other = (Image.effect_noise(size, 60).convert("RGB") for size in ((48, 48), (64, 48)))
        rows = [("red?", [one], "top row"), ("red?", [one], "top"), ("blue?", [other], "x"), ("blue?", [other], "y z")]
        assert_same(model, *vision_batch(load_processor(path), rows))
    else:
        prompts = [[7, 8, 9], [*range(20, 31)]] * 2
        assert_same(model, *made_batch(prompts, [[1, 2, 3, 4], [4], [5, 6], [8, 9]]))
    assert train(path, folder, rows_of(name)).shares_prefix


CHECKS = dict(zip(COLUMNS, (check_trains, check_teacher, check_lora, check_papo, check_shared), strict=True))


def cell(name, column, path, folder):
    if column in VISION_ONLY and name not in tiny_families.VISION:
        return "no images"
    try:
        CHECKS[column](name, path, folder)
    except NotImplementedError as reason:
        return str(reason)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f"{type(error).__name__}: {first[:110]}"
    return "yes"


def main(names):
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print("|".join(["", " family ", *(f" {column} " for column in COLUMNS), ""]))
    print("|---" * (len(COLUMNS) + 1) + "|", flush=True)
    for name in names or [*tiny_families.VISION, *tiny_families.TEXT_CONFIGS]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = save(Path(folder) / "model", name)
                cells = [cell(name, column, path, str(Path(folder) / column)) for column in COLUMNS]
            except Exception as error:
                cells = [f"{type(error).__name__}: {str(error).splitlines()[0][:110]}"]
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
