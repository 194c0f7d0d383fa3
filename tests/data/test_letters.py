"""Letters counted: hints say where the letter stands and not how often; worked responses are right."""

import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from ptdpo.data.files import read_jsonl
from ptdpo.data.letters import WARM_UP, _counted, letter_problems, write_warm_up
from ptdpo.hints import check_hint
from ptdpo.rewards import grade


def counted(letter, words, answer):
    entry = {
        "question": f'How many times does the letter "{letter}" appear in the text: "{" ".join(words)}"?',
        "answer": answer,
        "metadata": {"target_letter": letter, "span": words},
    }
    return _counted("letters-train-0-1", entry)


@pytest.mark.parametrize(
    ("letter", "words", "answer"),
    [
        ("e", ["free", "the", "witness", "Mr"], "4"),
        ("m", ["Mammoth", "tree"], "3"),
        ("q", ["free", "tree"], "0"),
    ],
)
def test_the_worked_response_counts_what_the_package_counts(letter, words, answer):
    one = counted(letter, words, answer)
    assert grade(one.solution.response, answer).accuracy == 1.0
    assert (one.problem.answer, one.problem.images) == (answer, ())


def test_a_hint_spells_the_words_that_have_the_letter_and_holds_no_number():
    one = counted("e", ["free", "the", "witness", "Mr"], "4")
    assert "free (f-r-e-e), the (t-h-e), witness (w-i-t-n-e-s-s)" in one.hint.look
    assert "Mr" not in one.hint.look
    assert not any(sign.isdigit() for sign in f"{one.hint.look} {one.hint.reason}")
    assert check_hint(one.problem, one.hint).ok, check_hint(one.problem, one.hint).reasons


def test_without_the_letter_the_hint_says_so():
    assert "no word" in counted("q", ["free"], "0").hint.look


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ValueError, match="pip install reasoning-gym"):
        letter_problems("train", 2, 0)


def test_splits_and_seeds_are_drawn_apart(monkeypatch):
    """The package makes an item from the sum of its seed and its place: neighbouring seeds hold the same items."""
    asked = []

    def create_dataset(task, *, size, seed, **_):
        asked.append((task, seed))
        return [
            {"question": f"q {seed + n}", "answer": f"{n % 7}", "metadata": {"target_letter": "a", "span": ["a"]}}
            for n in range(size)
        ]

    monkeypatch.setitem(sys.modules, "reasoning_gym", SimpleNamespace(create_dataset=create_dataset))
    made = [letter_problems(split, 12, seed) for seed in (0, 1) for split in ("train", "validation", "test")]
    assert len(set(asked)) == 6
    assert len({one.problem.id for split in made for one in split}) == 72
    assert len({one.problem.problem for split in made for one in split}) == 72
    counts = Counter(one.problem.answer for one in made[0])
    assert counts == {"1": 3, "2": 3, "3": 2, "4": 2, "5": 2}, "guessing one answer is right a fifth of the time"


def test_every_second_row_of_the_warm_up_has_its_hint(monkeypatch, tmp_path):
    def create_dataset(_, *, size, **__):
        words = {"target_letter": "e", "span": ["free", "the"]}
        return [{"question": f"q {n}", "answer": f"{n % 5 + 1}", "metadata": words} for n in range(size)]

    monkeypatch.setitem(sys.modules, "reasoning_gym", SimpleNamespace(create_dataset=create_dataset))
    write_warm_up(tmp_path)
    problems = [row["problem"] for _, row in read_jsonl(tmp_path / "warm.jsonl")]
    assert [("f-r-e-e" in text) for text in problems] == [False, True] * (WARM_UP // 2)
    assert len((tmp_path / "warm.solutions.jsonl").read_text().splitlines()) == WARM_UP
