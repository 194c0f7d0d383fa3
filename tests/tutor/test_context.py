from types import SimpleNamespace

import datasets
import pytest

from ptdpo.data.attach import attach_hints
from ptdpo.data.checks import find_bad_rows
from ptdpo.data.contexts import CONTEXTS, Column, Context, context_named
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import LoadedData
from ptdpo.data.prompts import attach_images, conversation
from ptdpo.data.teacher_images import TeacherImages
from ptdpo.records import Hint, Problem
from ptdpo.train.plan import check_contexts
from ptdpo.tutor.context import hinted_prompt, images_of, privileged_prompt

HINT = {"look": "the left column", "reason": "count red"}


def text(row):
    (message,) = hinted_prompt(row)
    return message["content"]


def test_a_structured_hint_is_appended_to_the_question():
    row = {"prompt": conversation("how many?"), "hint": HINT}
    assert text(row) == "how many?\n\nHint. Look: the left column\nReason: count red"
    assert row["prompt"][0]["content"] == "how many?", "the policy's prompt is not changed"


@pytest.mark.parametrize("instruction", ["Think first.", ""])
def test_one_hint_is_one_teacher_prompt_whatever_file_it_comes_from(instruction):
    problem = Problem("1", (), "<image>\nhow many?", "3")
    hint = Hint("the left column", "count red ")
    (attached,) = attach_hints([problem], {"1": hint}).problems
    apart = rl_dataset([problem], {"1": hint}, instruction=instruction)[0]
    joined = rl_dataset([attached], instruction=instruction)[0]
    assert not (joined["hint"] or {}).get("look")
    assert text(apart) == text(joined)
    expected = "how many?\n\nHint. Look: the left column\nReason: count red"
    assert text(apart) == (f"{expected}\n\n{instruction}" if instruction else expected)


def test_without_the_instruction_at_its_end_a_message_gets_the_hint_last():
    row = {"prompt": conversation("how many?"), "hint": "look left", "instruction": "Think first."}
    assert text(row) == "how many?\n\nlook left"


def test_an_answer_may_be_the_number_zero():
    (message,) = privileged_prompt({"prompt": conversation("how many?"), "answer": 0}, "answer")
    assert "The right answer is:\n0\n" in message["content"]


def test_a_hint_as_text():
    assert text({"prompt": conversation("how many?"), "hint": " look left "}) == "how many?\n\nlook left"


def test_prompt_with_hint_takes_the_place_of_the_question_without_its_markers():
    row = {"prompt": conversation("how many?"), "prompt_with_hint": "<image>\nhow many? Hint: look left"}
    assert text(row) == "how many? Hint: look left"


def test_structured_fields_win_over_prompt_with_hint():
    row = {"prompt": conversation("how many?"), "hint": HINT, "prompt_with_hint": "other"}
    assert "left column" in text(row)


@pytest.mark.parametrize(
    "fields",
    [{}, {"hint": None}, {"hint": ""}, {"prompt_with_hint": ""}, {"prompt_with_hint": "  "},
     {"hint": {"look": None, "reason": None}, "prompt_with_hint": None}],
)  # fmt: skip
def test_rows_without_a_hint_have_no_teacher_context(fields):
    assert hinted_prompt({"prompt": conversation("how many?"), **fields}) is None


def test_half_a_hint_is_refused():
    with pytest.raises(ValueError, match="row 7"):
        hinted_prompt({"id": 7, "prompt": conversation("q"), "hint": {"look": "left", "reason": ""}})


def test_only_the_last_user_message_carries_the_hint():
    prompt = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "second"},
    ]
    hinted = hinted_prompt({"prompt": prompt, "hint": "h"})
    assert [m["content"] for m in hinted] == ["s", "first", "a", "second\n\nh"]


def test_a_prompt_without_user_text_is_refused():
    with pytest.raises(ValueError, match="no user message"):
        hinted_prompt({"prompt": [{"role": "system", "content": "s"}], "hint": "h"})


def test_images_stand_in_front_of_the_first_user_message():
    messages = [{"role": "system", "content": "s"}, *conversation("q"), *conversation("again")]
    structured = attach_images(messages, ["a", "b"])
    assert structured[0]["content"] == [{"type": "text", "text": "s"}]
    assert [part["type"] for part in structured[1]["content"]] == ["image", "image", "text"]
    assert [part["type"] for part in structured[2]["content"]] == ["text"]


def test_what_a_teacher_is_told():
    row = {"prompt": conversation("how many?"), "answer": "4", "solution": "<think>2 + 2</think>4", "hint": "count"}
    row["feedback"] = "off by one"
    texts = {c: privileged_prompt(row, c, "<think>hm</think>it is 4") for c in CONTEXTS}
    texts = {c: messages[0]["content"] for c, messages in texts.items()}
    assert texts["question"] == "how many?"
    assert "count" in texts["hint"]
    assert "4" in texts["answer"]
    assert "2 + 2" in texts["solution"]
    assert "said of a failed answer to the question:\noff by one\n" in texts["feedback"]
    assert "it is 4" in texts["sibling"]
    assert "hm" not in texts["sibling"], "a sibling's thinking is not shown"
    assert all(text.startswith("how many?") for text in texts.values())
    assert privileged_prompt(row, "sibling", "<thinking>hm</thinking> it is 4") == privileged_prompt(
        row, "sibling", "it is 4"
    )
    bare = {"prompt": conversation("how many?")}
    assert [privileged_prompt(bare, c) for c in ("hint", "answer", "solution", "feedback", "sibling")] == [None] * 5


def test_a_context_is_one_entry_of_the_table(monkeypatch, processor):
    """Added here and nowhere else, it has its column, its text, its length check and its refusals."""
    source = Context(
        "source",
        lambda question, row, sibling: f"{question} (from {row['source']})" if row.get("source") else None,
        (Column("source", datasets.Value("string"), lambda material: material.problem.source),),
        missing="no problem says where it comes from",
    )
    monkeypatch.setattr("ptdpo.data.contexts.CONTEXTS", {**CONTEXTS, "source": source})
    problems = [Problem("1", (), "how many?", "3", "a book " * 20), Problem("2", (), "how many?", "3")]
    rows = rl_dataset(problems, instruction="")
    assert privileged_prompt(rows[0], "source") == conversation(f"how many? (from {problems[0].source})")
    assert privileged_prompt(rows[1], "source") is None
    checked = find_bad_rows(problems, processor=processor, max_prompt_tokens=60, context="source", instruction="")
    assert [(row.id, row.reason.split(" of ")[0]) for row in checked.bad] == [("1", "prompt with its source")]
    end = processor.tokenizer.eos_token
    marked = find_bad_rows([Problem("3", (), "how many?", "3", f"a{end}book")], processor=processor)
    assert [row.reason for row in marked.bad] == [f"the source holds the special token {end}"]
    settings = SimpleNamespace(
        tutors=True,
        tutoring_weight=0.5,
        tutoring_context="source",
        hints_rollouts=False,
        teacher_images=TeacherImages(),
    )
    check_contexts(settings, LoadedData(problems, {}, {}, ""))
    with pytest.raises(ValueError, match="no problem says where it comes from"):
        check_contexts(settings, LoadedData(problems[1:], {}, {}, ""))


def test_only_a_sibling_waits_for_the_group_and_only_the_question_shows_nothing():
    assert [name for name, context in CONTEXTS.items() if context.needs_group] == ["sibling"]
    assert [name for name, context in CONTEXTS.items() if context.shows_nothing] == ["question"]
    with pytest.raises(ValueError, match="tutoring_context='answr': must be one of hint, hints, question"):
        context_named("answr")


PARTS = [{"type": "image"}, {"type": "text", "text": "how many?"}]


def test_prompts_in_parts_and_plain_text_are_told_as_well():
    row = {"prompt": [{"role": "user", "content": PARTS}], "hint": "look left", "images": ["a"]}
    (message,) = hinted_prompt(row)
    assert message["content"] == [{"type": "image"}, {"type": "text", "text": "how many?\n\nlook left"}]
    assert row["prompt"][0]["content"] == PARTS, "the policy's prompt is not changed"
    assert hinted_prompt({"prompt": "how many?", "hint": "look left"}) == "how many?\n\nlook left"
    assert hinted_prompt({"prompt": "how many?"}) is None
    assert privileged_prompt({"prompt": "how many?", "answer": 3}, "answer").startswith("how many?\n\nThe right answer")


def test_parts_as_a_table_stores_them_keep_their_images_in_place():
    stored = [
        {"type": "text", "text": "first: ", "image": None},
        {"type": "image", "text": None, "image": None},
        {"type": "text", "text": " or second: ", "image": None},
        {"type": "image", "text": None, "image": None},
    ]
    (message,) = hinted_prompt({"prompt": [{"role": "user", "content": stored}], "hint": "look left"})
    kinds = [part["type"] if part["type"] == "image" else part["text"] for part in message["content"]]
    assert kinds == ["first: ", "image", " or second: ", "image", "\n\nlook left"]
    structured = attach_images([message], ["a", "b"])
    assert [part["image"] for part in structured[0]["content"] if part["type"] == "image"] == ["a", "b"]
    with pytest.raises(ValueError, match=r"places for 2 images.* but there are 1"):
        attach_images([message], ["a"])


def test_images_are_found_in_either_column():
    assert images_of({"images": ["a", "b"]}) == ["a", "b"]
    assert images_of({"image": "a"}) == ["a"]
    assert images_of({"prompt": [{"role": "user", "content": [{"type": "image", "image": "c"}]}]}) == ["c"]
    assert images_of({"image": None}) == images_of({"images": None}) == images_of({}) == []
