"""What the hint writer is told, and every way in which it may answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.hints.prompt import Rejection, hint_messages, parse_hint, system_prompt
from ptdpo.records import Hint, Problem

HINT = Hint("the red bar", "compare heights")


@pytest.mark.parametrize(
    "text",
    [
        '{"look": "the red bar", "reason": "compare heights"}',
        'Sure!\n```json\n{"look": "the red bar",\n "reason": "compare heights"}\n```\nHope it helps {now}.',
        '<think>{"look": "a", "reason": "b"} no</think>{"look": "the red bar", "reason": "compare heights"}',
        '<thinking>look: a\nreason: b</thinking>Look: the red bar\nReason: compare heights',
        '{"hint": {"look": "the red bar", "reason": "compare heights"}}',
        '{"Look": "the red bar", "REASON": "compare heights", "answer": null}',
        '{"look": ["the red", "bar"], "reason": ["compare", "heights"]}',
        '{x} {"look": "the red bar", "reason": "compare heights"}',
        "Look: the red bar\nReason: compare heights",
        "**Look:** the red bar\n\n**Reason:** compare heights",
        "## Where to look\nthe red bar\n## How to reason\ncompare heights",
        "- look: the red bar\n- reasoning: compare heights",
        'Reason: compare heights\nLook: the red bar',
    ],
)  # fmt: skip
def test_a_hint_is_found_in_many_forms(text):
    assert parse_hint(text) == HINT


@pytest.mark.parametrize(
    "text",
    ["", "I cannot help.", '{"look": "x"}', '{"look": "", "reason": "y"}', '{"look": 3, "reason": "y"}', "Look: x",
     '{"look": "x", "reason": ', "Look:\nReason: y", "{" * 5000, "[" * 100_000 + '{"a":' * 3000],
)  # fmt: skip
def test_what_is_not_a_hint_is_refused(text):
    with pytest.raises(ValueError, match="'look' and 'reason'"):
        parse_hint(text)


def test_a_draft_of_thinking_that_never_ends_is_no_hint():
    with pytest.raises(ValueError, match="the thinking never ends"):
        parse_hint('<think>{"look": "the red bar", "reason": "compare heights"}')


PLAIN = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="`"), min_size=1)


@given(PLAIN, PLAIN, st.sampled_from(["", "Here: ", "```json\n"]))
def test_any_text_survives_json(look, reason, before):
    assert parse_hint(before + json.dumps({"look": look, "reason": reason})) == Hint(look, reason)


def test_the_model_sees_question_answer_and_images_but_no_marker():
    problem = Problem("1", ("a.png",), "<image>\nhow many?", "3")
    system, user = hint_messages(problem, system_prompt())
    assert (system.role, user.role, user.images, system.images) == ("system", "user", ("a.png",), ())
    assert user.text == "Question:\nhow many?\n\nVerified answer:\n3"
    assert "look" in system.text


def test_problems_without_images_are_asked_about_in_words_of_their_own():
    prompt = system_prompt()
    (in_words, _), (seen, _) = (hint_messages(Problem("1", images, "q", "a"), prompt) for images in ((), ("a.png",)))
    assert "image" in seen.text
    assert "image" not in in_words.text
    assert '{"look": "...", "reason": "..."}' in in_words.text
    assert prompt.of(Problem("1", (), "q", "a")).version != prompt.of(Problem("1", ("a.png",), "q", "a")).version


def test_a_prompt_of_one_s_own_is_for_all_problems(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("be brief")
    prompt = system_prompt(path)
    assert prompt.of(Problem("1", (), "q", "a")) == prompt.of(Problem("1", ("a.png",), "q", "a")) == prompt


def test_a_regeneration_shows_the_last_hint_and_why():
    messages = hint_messages(Problem("1", (), "q", "a"), system_prompt(), Rejection("old hint", ("says 3", "no image")))
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].text == "old hint"
    assert "- says 3\n- no image" in messages[3].text


def test_an_own_prompt_has_its_own_version(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("be brief")
    first = system_prompt(path)
    path.write_text("be very brief")
    assert first.text == "be brief"
    assert len({first.version, system_prompt(path).version, system_prompt().version}) == 3
    path.write_text(" ")
    with pytest.raises(ValueError, match="empty"):
        system_prompt(path)
    with pytest.raises(ValueError, match="no such system prompt"):
        system_prompt(tmp_path / "absent")
