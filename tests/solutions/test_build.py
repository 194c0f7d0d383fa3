"""Solutions against a real server: the shortest right one, repair, the reverse pass, and what is stored."""

import json
from collections import Counter

import pytest
from PIL import Image

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service, WorkFiles, read_failures
from ptdpo.chat.requests import ChatReply, Sampling
from ptdpo.data.dataset import solution_rows
from ptdpo.data.files import read_solutions, write_problems
from ptdpo.data.prompts import THINKING_INSTRUCTION
from ptdpo.data.scan import read_problems
from ptdpo.records import Problem
from ptdpo.solutions.build import SolutionSettings, build_solutions, with_opened_thinking
from tests.chat.loopback import LoopbackServer, Refuse, Say, user_text

RIGHT = "<think>I count the bars one by one.</think>\\boxed{7}"


@pytest.fixture
def problems(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    path = tmp_path / "problems.jsonl"
    image = str(tmp_path / "a.png")
    write_problems(path, [Problem(str(n), (image, image), f"<image><image>question {n}", "7") for n in range(3)])
    return path


def build(server, problems, out, *, fallback=None, **settings):
    client = ClientSettings(first_wait=0.001, longest_wait=0.01)
    service = Service(Endpoint(server.url, "m"), fallback and Endpoint(fallback.url, "strong"), client)
    return build_solutions(problems, out, service, SolutionSettings(**settings))


def in_turn(*answers):
    """Each question gets these answers one after the other, however the questions are interleaved."""
    asked = Counter()

    def next_answer(body):
        asked[user_text(body)] += 1
        return answers[(asked[user_text(body)] - 1) % len(answers)]

    return next_answer


def saw_answer(body):
    return "the final answer is 7" in user_text(body)


def test_the_shortest_right_response_is_kept(problems, tmp_path):
    answers = [
        "<think>This is a right response, but rather a long one.</think>\\boxed{7}",
        RIGHT,
        "<think>Short.</think>\\boxed{8}",
        "\\boxed{7}",
    ]
    turn = in_turn(*map(Say, answers))
    with LoopbackServer(lambda body, _: turn(body)) as server:
        report, stages = build(server, problems, tmp_path / "s.jsonl")
        assert (report.done, stages) == (3, Counter(sample=3))
        assert build(server, problems, tmp_path / "s.jsonl")[0].known == 3
    assert len(server.received) == 12
    assert not any(map(saw_answer, server.received))
    assert read_solutions(tmp_path / "s.jsonl") == {str(n): RIGHT for n in range(3)}


def test_the_stored_line_is_sharegpt_with_the_images(problems, tmp_path):
    with LoopbackServer(lambda *_: Say(RIGHT)) as server:
        build(server, problems, tmp_path / "s.jsonl", samples=1)
    row = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0])
    assert set(row) == {"id", "conversations", "images", "question_hash"}
    asked = f"<image><image>question {row['id']}\n\n{THINKING_INSTRUCTION}"
    assert row["conversations"] == [{"from": "human", "value": asked}, {"from": "gpt", "value": RIGHT}]
    assert row["images"] == ["a.png", "a.png"]
    rows = solution_rows(read_problems(problems), read_solutions(tmp_path / "s.jsonl"))
    assert len(rows) == 3


def test_repair_has_a_larger_budget(problems, tmp_path):
    def behave(body, _):
        return Say(RIGHT) if body["max_tokens"] == 900 else Say("<think>hm", "length")

    with LoopbackServer(behave) as server:
        _, stages = build(
            server, problems, tmp_path / "s.jsonl", sampling=Sampling(max_tokens=300), repair_max_tokens=900
        )
    assert stages == Counter(repair=3)
    assert not any(map(saw_answer, server.received))


def test_the_reverse_pass_is_verified_screened_and_leaves_no_trace(problems, tmp_path):
    bad = ["<think>The given answer is 7.</think>\\boxed{7}", "<think>I count.</think>\\boxed{8}"]

    turn = in_turn(*map(Say, [*bad, RIGHT]))

    def behave(body, _):
        return turn(body) if saw_answer(body) else Say("no idea")

    out = tmp_path / "s.jsonl"
    with LoopbackServer(behave) as server:
        _, stages = build(server, problems, out, samples=1, repair_samples=0, reverse_samples=3)
    assert stages == Counter(reverse=3)
    assert read_solutions(out) == {str(n): RIGHT for n in range(3)}
    stored = out.read_text()
    assert "final answer is" not in stored
    assert "reverse" not in stored


def test_a_fallback_takes_over_after_the_first_pass(problems, tmp_path):
    with LoopbackServer(lambda *_: Say("no")) as server, LoopbackServer(lambda *_: Say(RIGHT)) as strong:
        _, stages = build(server, problems, tmp_path / "s.jsonl", fallback=strong)
    assert stages == Counter(repair=3)
    assert (len(server.received), len(strong.received)) == (12, 12)


def test_unsolved_problems_are_listed_with_what_was_wrong(problems, tmp_path):
    wrong = in_turn(Say("<think>a</think>\\boxed{8}"), Say("\\boxed{7}"), Say("<think>", "length"))

    def behave(body, _):
        if "question 1" not in user_text(body):
            return Say(RIGHT)
        return Say("<think>The given answer is 7.</think>\\boxed{7}") if saw_answer(body) else wrong(body)

    out = tmp_path / "s.jsonl"
    with LoopbackServer(behave) as server:
        report, _ = build(server, problems, out, samples=9, repair_samples=9)
        assert (report.done, [row.id for row in report.failed]) == (2, ["1"])
        why = read_failures(WorkFiles.beside(out).failed)["1"]
        assert why.startswith("unsolved: 20 responses: ")
        for fault in ("wrong", "without the asked-for format", "cut off", "2 that show the answer was given"):
            assert fault in why
        server.behave = lambda *_: Say(RIGHT)
        assert build(server, problems, out, samples=10)[0].done == 1


def test_one_refused_response_fails_only_its_problem(problems, tmp_path):
    with LoopbackServer(
        lambda body, _: Refuse(400, "policy") if "question 1" in user_text(body) else Say(RIGHT)
    ) as server:
        report, _ = build(server, problems, tmp_path / "s.jsonl")
    assert (report.done, [row.id for row in report.failed]) == (2, ["1"])


def test_a_changed_question_or_image_is_solved_again(problems, tmp_path):
    out = tmp_path / "s.jsonl"
    with LoopbackServer(lambda *_: Say(RIGHT)) as server:
        build(server, problems, out, samples=1)
        problems.write_text(problems.read_text().replace("question 2", "other 2"))
        assert build(server, problems, out, samples=1)[0].done == 1
        Image.new("RGB", (8, 8), "green").save(problems.with_name("a.png"))
        assert build(server, problems, out, samples=1, limit=2)[0].done == 2
    assert len(read_solutions(out)) == 3


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (ChatReply("\\boxed{7}", "stop", 1, 1, reasoning="count"), "<think>\ncount\n</think>\n\n\\boxed{7}"),
        (ChatReply("count</think>\\boxed{7}", "stop", 1, 1), "<think>\ncount</think>\\boxed{7}"),
        (ChatReply(RIGHT, "stop", 1, 1), RIGHT),
        (ChatReply(" \\boxed{7}", "stop", 1, 1), "\\boxed{7}"),
    ],
)
def test_the_thinking_is_written_out_however_the_server_splits_it(reply, text):
    assert with_opened_thinking(reply.written_out) == text


@pytest.mark.parametrize("settings", [{"samples": 0}, {"repair_samples": -1}, {"reverse_samples": -1}])
def test_settings_that_ask_for_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=r"samples=.*: must be at least"):
        SolutionSettings(**settings)
