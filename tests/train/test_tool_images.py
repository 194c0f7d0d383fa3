"""Images in what tools answer: the teacher sees them in their places, as the student does."""

import datasets
import pytest
import torch
from PIL import Image
from transformers import AutoConfig

from ptdpo.data.rendering import render
from ptdpo.models import load_model, load_processor
from ptdpo.models.family import Family
from ptdpo.models.reading import read_images
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.tutor.context import hinted_prompt
from tests import tiny_families
from tests.train.helpers import SGD, Alternating, metrics, small_settings
from tests.train.test_tools import kept
from tests.tutor.test_rendered import template_named

SHOWN = Image.effect_noise((48, 48), 60).convert("RGB")
ANSWERED = {size: Image.effect_noise(size, 60).convert("RGB") for size in ((32, 32), (64, 32))}
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"which colour is hidden? {n}"}],
        "hint": {"look": f"ask for cell {n}", "reason": "then answer with it"},
        "images": [SHOWN] * (n % 2),
    }
    for n in range(4)
]
FEATURES = datasets.Features(
    {
        "prompt": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        "hint": {"look": datasets.Value("string"), "reason": datasets.Value("string")},
        "images": datasets.List(datasets.Image()),
    }
)


def look(cell: int) -> list:
    """Show a cell.

    Args:
        cell: its number.
    """
    size = (32, 32) if cell else (64, 32)
    return [{"type": "image", "image": ANSWERED[size]}, {"type": "text", "text": f"cell {cell}"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tiny_families.save_vision_model(tmp_path_factory.mktemp("vl"), "qwen3_vl")
    processor = load_processor(folder)
    processor.chat_template = processor.tokenizer.chat_template = template_named("qwen3_vl")
    processor.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    # TRL leaves out what tools answer beyond it.
    config.text_config.max_position_embeddings = 4096
    config.save_pretrained(folder)
    return folder


class Scripted(PTDTrainer):
    """Of three rollouts the first asks for cell 0, the second for cell 1, the third for none; then all answer."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        tokenizer, texts = self._tokenizer, []
        for number, ids in enumerate(prompt_ids):
            again = "<tool_response>" in tokenizer.decode(ids).split("which colour")[-1]
            call = f'<tool_call>\n{{"name": "look", "arguments": {{"cell": {number % 3}}}}}\n</tool_call><|im_end|>'
            texts.append("blue<|im_end|>" if again or number % 3 == 2 else call)
        return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts], None


def start(path, folder, trainer=Scripted, **settings):
    settings = {**small_settings(), **SGD, "tutoring_k": 10, "max_completion_length": 400, **settings}
    args = PTDConfig.from_preset("ptd-grpo", output_dir=str(folder), **settings)
    rows = datasets.Dataset.from_list(ROWS, features=FEATURES)
    return trainer(path, Alternating(3), args, train_dataset=rows, tools=[look])


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, path):
    trainer = start(path, tmp_path_factory.mktemp("run"))
    trainer.train()
    return trainer


def test_rollouts_with_and_without_images_are_tutored(trainer):
    (logged,) = metrics(trainer)
    assert logged["tools/failure_frequency"] == 0
    assert logged["tutored/rollouts"] == 5


def test_the_teacher_sees_the_images_in_their_places_exactly(trainer, path):
    """Against the whole model on prompt, turns and images of one rollout at a time, as a person would put them down."""
    model, processor = load_model(path).eval(), load_processor(path)
    tokenizer, token, answers = processor.tokenizer, model.config.image_token_id, set()
    for prompt, ids, own, record in kept(trainer):
        (row,) = [row for row in ROWS if row["prompt"][0]["content"] in tokenizer.decode(prompt)]
        text = render(processor, hinted_prompt(row), row["images"], tools=trainer.tools)
        inputs = processor(text=[text], images=row["images"] or None, return_tensors="pt")
        said = tokenizer.decode(ids)
        images = [ANSWERED[(64, 32)]] if "cell 0" in said else [ANSWERED[(32, 32)]] if "cell 1" in said else []
        read = torch.cat([inputs["input_ids"], ids[None]], dim=1)
        shown = read_images(processor, [*row["images"], *images]) if row["images"] or images else {}
        with torch.no_grad():
            logits = model(read, mm_token_type_ids=(read == token).long(), **shown).logits
        logits = logits[0, inputs["input_ids"].size(1) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, ids[:, None])[own]
        got = record.with_head(*trainer.teacher.head()).log_probs_at(ids[own][:, None])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        assert not (ids[own] == token).any()
        answers.add(len(images))
    assert answers == {0, 1}


def test_what_a_tool_shows_reaches_the_teacher(path, tmp_path, trainer, monkeypatch):
    monkeypatch.setitem(ANSWERED, (32, 32), Image.new("RGB", (32, 32), "black"))
    monkeypatch.setitem(ANSWERED, (64, 32), Image.new("RGB", (64, 32), "black"))
    other = start(path, tmp_path)
    other.train()
    assert abs(metrics(trainer)[0]["divergence"] - metrics(other)[0]["divergence"]) > 1e-7


def test_shared_and_plain_layouts_take_the_same_step(path, tmp_path):
    ends = []
    for share in (False, True):
        trainer = start(path, tmp_path / str(share), share_prefix=share)
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4)


def test_a_rollout_whose_images_were_cut_off_is_not_tutored(path, tmp_path, monkeypatch):
    """TRL leaves out all images of a batch in which a response ends within one."""
    seen = PTDTrainer._generate

    def cut(self, prompts):
        made = list(seen(self, prompts))
        token = self.model.config.image_token_id
        for ids in made[1]:
            if token in ids:
                ids[ids.index(token)] = ids[0]
        return tuple(made)

    monkeypatch.setattr(PTDTrainer, "_generate", cut)
    trainer = start(path, tmp_path)
    trainer.train()
    asked = [bool(own.all()) for _, _, own, _ in kept(trainer)]
    assert asked
    assert all(asked)


def test_a_family_whose_images_are_not_counted_out_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr("ptdpo.train.trl.turns.family_of", lambda config: Family(("other",), "other"))
    with pytest.raises(ValueError, match="a tool answered with an image: for model type 'qwen3_vl' tutoring cannot"):
        start(path, tmp_path).train()
