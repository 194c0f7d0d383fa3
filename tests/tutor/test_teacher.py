"""The teacher sees the image and the hint, and reads the student's own tokens exactly as a plain forward would."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from ptdpo.data.prompts import attach_images, conversation
from ptdpo.models import load_model
from ptdpo.tutor.context import hinted_prompt
from ptdpo.tutor.head import ScoreRequest, add_scoring_head
from ptdpo.tutor.teacher import Lesson, Teacher

RED, BLUE = (Image.new("RGB", (48, 48), colour) for colour in ("red", "blue"))


@pytest.fixture
def teacher(model, processor):
    add_scoring_head(model.eval())
    return Teacher(model, model, processor, micro_batch=2)


def lesson(processor, text="what is the alpha score?", images=(RED,), response="<think>top row</think>"):
    ids = processor.tokenizer(response, return_tensors="pt")["input_ids"][0]
    return Lesson(conversation(text), list(images), ids)


def logits(teacher, *lessons):
    """The teacher's next-token logits along each response."""
    calls = teacher.calls_needed(len(lessons))
    records = teacher.read(lessons, calls=calls, filler=lessons[0])
    return [torch.nn.functional.linear(record.hidden, *teacher.head()) for record in records]


def plain_logits(model, processor, one):
    """The same by a plain forward of one unpadded row."""
    messages = attach_images(one.messages, one.images)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = dict(processor(text=[text], images=list(one.images) or None, return_tensors="pt"))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], one.response_ids[None]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    zeros = torch.zeros_like(one.response_ids[None])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], zeros], dim=1)
    with torch.no_grad():
        return model(**inputs).logits[0, -1 - len(one.response_ids) : -1]


def test_two_rows_of_unequal_length_equal_a_plain_forward(teacher, model, processor):
    short = lesson(processor, text="red?", response="<think>x</think>")
    long = lesson(processor, images=[BLUE])
    assert len(short.response_ids) != len(long.response_ids)
    for got, one in zip(logits(teacher, short, long), (short, long), strict=True):
        torch.testing.assert_close(got, plain_logits(model, processor, one), rtol=1e-5, atol=1e-5)


def test_the_entropy_is_that_of_the_whole_distribution(teacher, model, processor):
    """At the sampling temperature, cut to lessons as the rest."""
    teacher = Teacher(model, model, processor, micro_batch=2, temperature=0.7, k=3, with_entropy=True)
    lessons = [lesson(processor, text="red?", response="<think>x</think>"), lesson(processor, images=[BLUE])]
    for record, one in zip(teacher.read(lessons, calls=1, filler=lessons[0]), lessons, strict=True):
        log_q = (plain_logits(model, processor, one).double() / 0.7).log_softmax(-1)
        exact = -(log_q.exp() * log_q).sum(-1)
        torch.testing.assert_close(record.entropy.double(), exact, rtol=1e-5, atol=1e-5)
        assert len(record[:1].entropy) == 1


def test_log_probabilities_are_those_of_the_tokens_that_the_student_wrote(model, processor):
    """At the sampling temperature, cut to lessons; forwards that other processes need leave nothing."""
    teacher = Teacher(model, model, processor, micro_batch=2, temperature=0.7)
    add_scoring_head(model.eval())
    lessons = [lesson(processor, text="red?", response="<think>x</think>"), lesson(processor, images=[BLUE])]
    written = torch.ones(len(lessons[1].response_ids), dtype=torch.bool)
    written[1] = False
    lessons.append(replace(lessons[1], written=written))
    found = teacher.log_probs(lessons, calls=3, filler=lessons[0])
    for got, one in zip(found, lessons, strict=True):
        log_q = (plain_logits(model, processor, one).double() / 0.7).log_softmax(-1)
        exact = log_q.gather(1, one.response_ids[:, None]).squeeze(1)
        exact = exact if one.written is None else exact[one.written]
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="3 lessons need 2 forwards, only 1"):
        teacher.log_probs(lessons, calls=1, filler=lessons[0])


def test_several_images_no_image_and_mixed_batches(teacher, model, processor):
    lessons = [
        lesson(processor, images=[RED, BLUE]),
        lesson(processor, images=[]),
        lesson(processor, images=[BLUE]),
        lesson(processor, images=[]),
    ]
    for got, one in zip(logits(teacher, *lessons), lessons, strict=True):
        torch.testing.assert_close(got, plain_logits(model, processor, one), rtol=1e-5, atol=1e-5)


def test_the_distribution_changes_with_the_image(teacher, processor):
    """The released reference code teaches blind."""
    red, blue = logits(teacher, lesson(processor), lesson(processor, images=[BLUE]))
    assert (red - blue).abs().max() > 1e-3


def test_the_distribution_changes_with_the_order_of_images(teacher, processor):
    first, second = logits(teacher, lesson(processor, images=[RED, BLUE]), lesson(processor, images=[BLUE, RED]))
    assert (first - second).abs().max() > 1e-3


def test_the_distribution_changes_with_the_hint(teacher, processor):
    row = {"prompt": conversation("what is the alpha score?"), "hint": {"look": "top row", "reason": "count red"}}
    other = {**row, "hint": {"look": "left column", "reason": "count red"}}
    texts = [hinted_prompt(r)[0]["content"] for r in (row, other)]
    first, second = logits(teacher, *(lesson(processor, text=text) for text in texts))
    assert (first - second).abs().max() > 1e-3


def test_micro_batches_do_not_change_the_result(model, processor, teacher):
    lessons = [lesson(processor, response=f"<think>{'red ' * n}</think>") for n in range(1, 6)]
    whole = Teacher(model, model, processor, micro_batch=5)
    for got, expected in zip(logits(teacher, *lessons), logits(whole, *lessons), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_extra_calls_read_a_filler_and_change_nothing(teacher, model, processor, monkeypatch):
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: calls.append(k) or forward(*a, **k))
    one = lesson(processor)
    alone = teacher.read([one], calls=1, filler=one)
    padded = teacher.read([one], calls=3, filler=lesson(processor, response="x"))
    assert len(calls) == 1 + 3
    assert torch.equal(alone[0].hidden, padded[0].hidden)
    assert torch.equal(alone[0].log_probs, padded[0].log_probs)
    assert teacher.read([], calls=2, filler=one) == []
    assert teacher.rows_read == 2, "fillers are not counted"


def test_too_few_calls_are_refused(teacher, processor):
    one = lesson(processor)
    with pytest.raises(ValueError, match="need 2 forwards"):
        teacher.read([one] * 3, calls=1, filler=one)


def test_the_teacher_leaves_no_graph(teacher, processor):
    one = lesson(processor)
    (record,) = teacher.read([one], calls=1, filler=one)
    assert not record.hidden.requires_grad
    assert not record.log_probs.requires_grad
    assert record.weight is None, "a sharded head must not stay gathered"


def test_micro_batch_must_be_positive(model, processor):
    with pytest.raises(ValueError, match="at least 1"):
        Teacher(model, model, processor, micro_batch=0)


def test_models_that_transform_their_logits_are_refused(tiny_path):
    model = load_model(tiny_path)
    model.config.get_text_config().final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="final_logit_softcapping=30"):
        add_scoring_head(model)


def test_calls_without_a_score_request_are_untouched(tiny_path, processor):
    plain, scoring = load_model(tiny_path), load_model(tiny_path)
    add_scoring_head(scoring)
    ids = processor.tokenizer("what is red?", return_tensors="pt")["input_ids"]
    assert torch.equal(plain(input_ids=ids).logits, scoring(input_ids=ids).logits)
    kept = plain.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert torch.equal(kept, scoring.generate(input_ids=ids, max_new_tokens=3, do_sample=False))


def test_a_request_for_distributions_reads_the_states_that_predict_the_response(model, processor):
    add_scoring_head(model)
    ids = processor.tokenizer("what is red and what is blue?", return_tensors="pt")["input_ids"]
    response = ids[:, -3:]
    request = ScoreRequest(response, torch.ones_like(response, dtype=torch.bool), reduce_to=4)
    record = model(input_ids=ids, score=request).details.record
    expected = model.base_model(input_ids=ids).last_hidden_state[0, -4:-1]
    torch.testing.assert_close(record.hidden, expected)
