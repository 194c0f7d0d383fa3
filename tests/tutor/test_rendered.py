"""Question and hint stand in what every common template writes for the teacher; two hints are two teachers."""

from importlib.resources import files

import pytest
import torch
import trl

from ptdpo.data.rendering import as_text, render
from ptdpo.models import load_processor
from ptdpo.tutor.context import hinted_prompt
from ptdpo.tutor.head import add_scoring_head
from ptdpo.tutor.rendered import refuse_unread_prompts
from ptdpo.tutor.teacher import Lesson, Teacher
from tests import tiny_families

MISTRAL = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
TEMPLATES = ("qwen2_5", "qwen3", "llama3", "llama3_1", "gemma", "phi3", "gptoss", "deepseek_r1_distill", "mistral")
ROW = {
    "id": "7",
    "prompt": [{"role": "user", "content": "What is in the top row?\n\nAnswer in a box."}],
    "hint": {"look": "at the first row", "reason": "red is 1, {so} count"},
    "instruction": "Answer in a box.",
}


def template_named(name):
    return MISTRAL if name == "mistral" else (files(trl) / "chat_templates" / f"{name}.jinja").read_text()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_families.make_tokenizer("llama")


@pytest.fixture(scope="module")
def model(tokenizer):
    model = tiny_families.make_text_model("llama", tokenizer).eval()
    add_scoring_head(model)
    return model


def with_hint(**hint):
    return {**ROW, "hint": {**ROW["hint"], **hint}}


@pytest.mark.parametrize("name", TEMPLATES)
def test_question_and_hint_stand_in_the_teacher_s_prompt(tokenizer, name):
    template = template_named(name)
    shown = render(tokenizer, hinted_prompt(ROW), chat_template=template)
    for said in ("What is in the top row?", "at the first row", "red is 1, {so} count", "Answer in a box."):
        assert shown.count(said) == 1
    assert "[{" not in shown, "no list in Python's form"
    refuse_unread_prompts(tokenizer, [ROW], "hint", chat_template=template)


@pytest.mark.parametrize("name", TEMPLATES)
def test_two_hints_are_two_teachers(tokenizer, model, name):
    teacher = Teacher(model, model, tokenizer, micro_batch=2, k=20, template={"chat_template": template_named(name)})
    response = torch.tensor([70, 71, 72])
    lessons = [Lesson(hinted_prompt(row), [], response) for row in (ROW, with_hint(look="at the last column"), ROW)]
    first, other, again = teacher.read(lessons, calls=2, filler=lessons[0])
    torch.testing.assert_close(first.hidden, again.hidden)
    assert (first.hidden - other.hidden).abs().max() > 1e-3


def test_the_teacher_reads_text_as_the_model_alone_does(tokenizer, model):
    """Prompts of unequal length in one batch, against the whole model on each without padding."""
    teacher = Teacher(model, model, tokenizer, micro_batch=2, k=20)
    response = torch.tensor([70, 71, 72])
    rows = [ROW, with_hint(look="at the last column, from its second cell on")]
    lessons = [Lesson(hinted_prompt(row), [], response) for row in rows]
    for row, record in zip(rows, teacher.read(lessons, calls=1, filler=lessons[0]), strict=True):
        ids = tokenizer(render(tokenizer, hinted_prompt(row)), add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([[*ids, *response.tolist()]])).logits[0, len(ids) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, response[:, None])
        torch.testing.assert_close(record.with_head(*teacher.head()).log_probs_at(response[:, None]), expected)


@pytest.mark.parametrize("name", ["qwen3", "gemma"])
def test_a_template_that_loses_parts_is_refused_with_what_it_renders(tokenizer, name):
    row = {**ROW, "prompt": [{"role": "user", "content": [{"type": "text", "text": "What is in the top row?"}]}]}
    template = template_named(name)
    if "What is" in tokenizer.apply_chat_template(row["prompt"], tokenize=False, chat_template=template):
        refuse_unread_prompts(tokenizer, [row], "hint", chat_template=template)
        return
    with pytest.raises(ValueError, match=r"row 7: the policy would not read 'What is in the top row\?': the chat"):
        refuse_unread_prompts(tokenizer, [row], "hint", chat_template=template)


def test_a_template_that_writes_no_hint_is_refused(tokenizer):
    template = "{% for m in messages %}{{ m.content[:23] }}{% endfor %}"
    row = {**ROW, "prompt": [{"role": "user", "content": "What is in the top row?"}], "instruction": ""}
    with pytest.raises(ValueError, match=r"row 7: the teacher would not read 'What is in the top row.*Hint"):
        refuse_unread_prompts(tokenizer, [row], "hint", chat_template=template)
    refuse_unread_prompts(tokenizer, [row], "question", chat_template=template)


def test_models_of_images_read_parts_and_are_checked_too(processor, train_rows):
    refuse_unread_prompts(processor, train_rows.select(range(3)), "hint")
    with pytest.raises(ValueError, match="the policy would not read"):
        refuse_unread_prompts(processor, train_rows.select(range(1)), "hint", chat_template="nothing")


def test_text_only_models_refuse_images(tokenizer):
    with pytest.raises(ValueError, match="comes with 1 images, but the model reads text only"):
        render(tokenizer, ROW["prompt"], ["image"])
    with pytest.raises(ValueError, match="parts of type image, but the model reads text only"):
        as_text([{"role": "user", "content": [{"type": "image"}]}])
    with pytest.raises(ValueError, match="plain text has no place for them"):
        render(tokenizer, "what?", ["image"])


def test_plain_text_is_read_as_it_is(tokenizer):
    row = {"prompt": "What is in the top row?", "hint": "at the first row"}
    shown = render(tokenizer, hinted_prompt(row))
    assert shown == "What is in the top row?\n\nat the first row"
    refuse_unread_prompts(tokenizer, [row], "hint")


def test_the_tokenizer_of_a_model_of_text_is_its_processor(tmp_path):
    path = tiny_families.save_text_model(tmp_path, "qwen3", template_named("qwen3"))
    assert "at the first row" in render(load_processor(path), hinted_prompt(ROW))
