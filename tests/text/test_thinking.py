import pytest

from ptdpo.text.thinking import after_thinking, last_said


@pytest.mark.parametrize(
    ("response", "opened", "expected"),
    [
        ("<think>a</think> b", False, " b"),
        ("<thinking>a</thinking>b", False, "b"),
        ("a</think>b</think>c", False, "c"),
        ("b", False, "b"),
        ("a</think>b", True, "b"),
        ("a", True, None),
        ("<think>a", False, None),
        ("<think>a</think>b<thinking>c", False, None),
    ],
)
def test_what_follows_the_thinking(response, opened, expected):
    assert after_thinking(response, prompt_opens_think=opened) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think>a</think> b", "b"),
        ("<thinking>a</thinking> b", "b"),
        (" b ", "b"),
        ("a</think>b <think>c", "b <think>c"),
    ],
)
def test_what_is_said_last(response, expected):
    assert last_said(response) == expected
