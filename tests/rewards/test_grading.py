import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.models import load_processor
from ptdpo.rewards import accuracy_reward, answers_match, format_reward, grade
from ptdpo.rewards.extraction import follows_format, last_boxed
from ptdpo.rewards.functions import ACCURACY_WEIGHT, FORMAT_WEIGHT, GradedAccuracy, default_rewards, opens_thinking
from ptdpo.rewards.keys import answer_key
from ptdpo.text import MAX_ANSWER

EQUAL = [
    ("12", "12"), ("12.0", "12"), ("012", "12"), ("+3", "3"), ("-0", "0"), (".5", "0.5"), ("1,200", "1200"),
    ("1e3", "1000"), ("1/2", "0.5"), ("\\frac{1}{2}", "1/2"), ("\\dfrac{3}{4}", "0.75"), ("-\\frac{1}{2}", "-0.5"),
    ("50%", "0.5"), ("50\\%", "1/2"), ("$12$", "12"), ("\\text{red}", "red"), ("Red", "red"), ("red.", "red"),
    (" red  shape ", "red shape"), ("(B)", "B"), ("B.", "B"), ("b", "B"), ("\\mathrm{B}", "B"), ("{7}", "7"),
    ("90^\\circ", "90"), ("90°", "90"), ("\\left(1,2\\right)", "(1,2)"), ("yes", "Yes"), ("1,234,567", "1234567"),
]  # fmt: skip
DIFFERENT = [
    ("12", "13"), ("12", "1200"), ("1,20", "120"), ("1/3", "0.333"), ("A", "B"), ("red", "blue"), ("", "3"),
    ("1/0", "1/0.0"), ("3 cm", "3 m"), ("-3", "3"), ("(1,2)", "(2,1)"), ("50%", "50"), ("x", "3"),
    ("redshape", "red shape"), ("9**9**9**9", "9"), ("9999999!", "1"), ("__import__('os')", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), EQUAL)
def test_equal_answers(given, expected):
    assert answers_match(given, expected)
    assert answers_match(expected, given)


@pytest.mark.parametrize(("given", "expected"), DIFFERENT)
def test_different_answers(given, expected):
    assert not answers_match(given, expected)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("so \\boxed{3}", "3"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{a{b{c}}d}", "a{b{c}}d"),
        ("\\boxed {5}", "5"),
        ("\\boxed{1} and \\boxed{2", "1"),
        ("\\boxed{}", ""),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("boxed{3}", None),
        ("the answer is 3", None),
        ("\\boxed 3", None),
        ("", None),
        ("}}}\\boxed{4}{{", "4"),
    ],
)
def test_the_last_complete_box(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("response", "prompt_opens_think", "good"),
    [
        ("<think>a</think> \\boxed{1}", False, True),
        ("<think>a</think> \\boxed{1}", True, True),
        ("a</think> \\boxed{1}", True, True),
        ("a</think> \\boxed{1}", False, False),
        ("\\boxed{1}", True, False),
        ("a</think> 1", True, False),
        ("</think>\\boxed{1}", True, False),
        ("a \\boxed{1}</think>", True, False),
        ("a</think>b</think>\\boxed{1}", True, False),
        ("<think>a<think>b</think>\\boxed{1}", True, False),
        ("a</think><think>\\boxed{1}", True, False),
    ],
)
def test_format(response, prompt_opens_think, good):
    assert follows_format(response, prompt_opens_think=prompt_opens_think) is good


def test_verdict():
    verdict = grade("<think>2 + 1</think> \\boxed{3.0}", "3")
    assert (verdict.accuracy, verdict.format, verdict.extracted) == (1.0, 1.0, "3.0")
    verdict = grade("3", "3", mode="mathruler")
    assert (verdict.accuracy, verdict.format, verdict.extracted) == (0.0, 0.0, None)
    verdict = grade("3", "3")
    assert (verdict.accuracy, verdict.format, verdict.extracted) == (1.0, 0.0, "3")


def test_an_empty_expected_answer_is_refused():
    with pytest.raises(ValueError, match="empty"):
        grade("\\boxed{}", "  ")


def test_rewards_of_text_and_of_messages():
    text = "<think>a</think>\\boxed{3}"
    completions = [text, [{"role": "assistant", "content": text}], "4"]
    blocks = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    assert accuracy_reward([*completions, blocks], answer=["3", "3", "3", "4"]) == [1.0, 1.0, 0.0, 0.0]
    assert format_reward([*completions, blocks]) == [1.0, 1.0, 0.0, 1.0]


def test_the_weights_of_table_3():
    assert (ACCURACY_WEIGHT, FORMAT_WEIGHT) == (0.9, 0.1)


def test_numbers_are_answers_and_nothing_else_is():
    texts = ["<think>a</think>\\boxed{3}"] * 3
    assert accuracy_reward(texts, answer=[3, 3.0, 4]) == [1.0, 1.0, 0.0]
    for answer in (None, True, ["3"]):
        with pytest.raises(ValueError, match="training data: the field 'answer' must be a text or a number"):
            accuracy_reward(texts[:1], answer=[answer])


HOSTILE = [
    "9" * 1_000_000, "9**" * 100_000 + "9", "{" * 500_000, "}" * 500_000, "\\boxed{" * 100_000,
    "\\boxed{" * 50_000 + "1" + "}" * 50_000, "1e" + "9" * 50, "1/" * 100_000, "\\frac{" * 100_000, "\x00" * 1000,
    "1,000" * 100_000, "\\text{" * 50_000 + "a" + "}" * 50_000, "(" * 100_000, "１２" * 1000, "\\" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_wrong_and_cost_no_time(hostile):
    start = time.process_time()
    assert grade(f"x</think>\\boxed{{{hostile}}}", "12").accuracy == 0.0
    assert grade(hostile, "12").accuracy == 0.0
    assert time.process_time() - start < 20, "a hang, not a speed: the work is linear"


@given(st.text(max_size=200), st.text(min_size=1, max_size=50).filter(str.strip))
def test_any_text_is_graded(response, answer):
    verdict = grade(response, answer)
    assert verdict.accuracy in (0.0, 1.0)
    assert verdict.format in (0.0, 1.0)


@given(st.integers(-(10**12), 10**12))
def test_numbers_survive_their_spellings(number):
    for spelling in (str(number), f"{number:,}", f"{number}.0", f"{number}.", f"${number}$", f" {number} "):
        assert grade(f"x</think>\\boxed{{{spelling}}}", str(number)).accuracy == 1.0
    assert not answers_match(str(number), str(number + 1))


ANSWERS = st.one_of(
    st.sampled_from(
        ["1/2", "0.5", "50%", "\\frac{1}{2}", "(a)", "a.", "A", "", " ", "x", "X.", "1,200", "1200", "x" * 300]
    ),
    st.text("0123456789abc./%,- ()", max_size=6),
)


@given(ANSWERS, ANSWERS)
def test_answers_match_if_and_only_if_their_keys_are_equal(first, second):
    keys = answer_key(first), answer_key(second)
    assert answers_match(first, second) == (keys[0] == keys[1] and keys[0] is not None)


def test_an_overlong_answer_has_no_key():
    assert answer_key("1" * (MAX_ANSWER + 1)) is None


def test_the_reward_reads_options_from_the_prompt():
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Which?\n(A) 3 cm\n(B) 4 cm\nThink first."}]}]
    texts = [f"x</think>\\boxed{{{given}}}" for given in ("4 cm", "B", "3 cm", "A")]
    assert accuracy_reward(texts, answer=["B"] * 4, prompts=[prompt] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert accuracy_reward(texts[:1], answer=["B"], prompts=["Which?\nA. 3 cm\nB. 4 cm"]) == [1.0]
    assert accuracy_reward(texts[:1], answer=["B"]) == [0.0]


def test_the_reward_of_a_run_keeps_its_name_and_grades_as_asked():
    text = ["x</think>\\boxed{B.}"]
    rewards = {mode: default_rewards(mode)[0] for mode in ("sound", "mathruler")}
    assert {mode: reward(text, answer=["B"]) for mode, reward in rewards.items()} == {
        "sound": [1.0],
        "mathruler": [0.0],
    }
    assert {reward.__name__ for reward in rewards.values()} == {"accuracy_reward"}
    with pytest.raises(ValueError, match="unknown grading 'lenient'"):
        default_rewards("lenient")  # type: ignore[arg-type]


def test_what_the_other_reader_would_accept_is_logged_and_written_once(tmp_path):
    logged = []
    reward = GradedAccuracy(disputes=tmp_path / "run" / "disputed.jsonl")
    texts = [f"x</think>\\boxed{{{given}}}" for given in ("20-30", "10-20", "20-30", "7")]
    for _ in range(2):
        scores = reward(texts, answer=["10-20"] * 4, log_metric=lambda *pair: logged.append(pair))
        assert scores == [0.0, 1.0, 0.0, 0.0]
    assert logged == [("disputed", 0.5), ("disputed", 0.5)]
    (row,) = map(json.loads, (tmp_path / "run" / "disputed.jsonl").read_text().splitlines())
    assert (row["answer"], row["extracted"], row["graded"]) == ("10-20", "20-30", "sound")
    assert (row["right_to"], row["which_extracted"]) == ("mathruler", "20-30")
    for number in range(20):
        reward([f"x</think>\\boxed{{{20 + number}-{30 + number}}}"], answer=["10-20"])
    assert len((tmp_path / "run" / "disputed.jsonl").read_text().splitlines()) == 10


def test_a_prompt_that_opens_the_thinking_is_read_off_the_template(tiny_path):
    processor = load_processor(tiny_path)
    assert opens_thinking(processor)
    assert not opens_thinking(None)
    cut_off = ["hm \\boxed{3} and then"]
    assert default_rewards("sound", processor)[0](cut_off, answer=["3"]) == [0.0]
    assert default_rewards("sound")[0](cut_off, answer=["3"]) == [1.0]
