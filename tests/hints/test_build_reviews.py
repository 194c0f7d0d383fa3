"""What reviewers say of hints that are there: rejected, accepted, edited."""

import json

import pytest

from ptdpo.chat.client import EndpointError
from ptdpo.data.files import read_hints
from ptdpo.hints.decisions import BY_REVIEWER, Decisions
from ptdpo.records import Hint
from tests.chat.loopback import LoopbackServer, Refuse
from tests.hints.build_worker import no_leak
from tests.hints.building import build, hint, lines, question


def review_file(tmp_path, **lists):
    path = tmp_path / "review.json"
    path.write_text(json.dumps(lists))
    return path


def test_a_review_replaces_what_it_rejects_and_keeps_what_it_accepts(problems, out, tmp_path):
    def behave(body, _):
        return hint(f"{question(body)}, {'again' if len(body['messages']) > 2 else 'first'}")

    review = review_file(tmp_path, accepted=["1"], rejected=["2"])
    with LoopbackServer(behave) as server:
        build(server, problems, out)
        report = build(server, problems, out, review=review)
        assert (report.done, len(server.received)) == (1, 21)
        assert BY_REVIEWER in server.received[-1]["messages"][-1]["content"]
        # The same list again, and no list at all, change nothing.
        assert build(server, problems, out, review=review).done == build(server, problems, out).done == 0
        hints = read_hints(out)
        assert (hints["2"].look, hints["1"].look) == ("question 2, again", "question 1, first")

        def stern(problem, hint):
            return no_leak(problem, hint) if "again" in hint.look else type(no_leak(problem, hint))(False, ["stern"])

        build(server, problems, out, check=stern, recheck=True)
    hints = read_hints(out)
    assert hints.pop("1").look == "question 1, first"
    assert {h.look.split(", ")[1] for h in hints.values()} == {"again"}


def test_a_rejected_hint_never_comes_back_even_after_a_kill(problems, out, tmp_path):
    with LoopbackServer(lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")) as server:
        build(server, problems, out)
        server.behave = lambda *_: Refuse(401, "closed")
        with pytest.raises(EndpointError):
            build(server, problems, out, review=review_file(tmp_path, rejected=["2", "3"]))
        server.behave = lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")
        assert build(server, problems, out).done == 2
    hints = read_hints(out)
    assert (hints["2"].look, hints["3"].look, hints["4"].look) == ("second", "second", "first")


def test_a_later_rejection_takes_an_acceptance_back_for_good(tmp_path):
    current = Hint("here", "so")
    with Decisions(tmp_path / "h.reviews.jsonl") as reviewed:
        reviewed.apply(review_file(tmp_path, accepted=["1", "2"]), lambda _: current)
        assert reviewed.accepted == {"1", "2"}
        reviewed.apply(review_file(tmp_path, rejected=["1"], reasons={"1": None}), lambda _: current)
        assert reviewed.accepted == {"2"}
        assert reviewed.reason_against("1", current) == BY_REVIEWER
    with Decisions(tmp_path / "h.reviews.jsonl") as again:
        assert again.accepted == {"2"}


def test_a_list_may_say_why(problems, out, tmp_path):
    with LoopbackServer(lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")) as server:
        build(server, problems, out)
        build(server, problems, out, review=review_file(tmp_path, rejected=["2"], reasons={"2": "it can be guessed"}))
    assert "- it can be guessed" in server.received[-1]["messages"][-1]["content"]
    assert {row["id"]: row["rejected"] for row in lines(out)}["2"] == ["it can be guessed"]


def test_an_edited_hint_takes_the_place_of_its_own_and_asks_for_nothing(problems, out, tmp_path):
    def stern(problem, hint):
        return type(no_leak(problem, hint))(False, ["stern"])

    with LoopbackServer(lambda *_: hint("first")) as server:
        build(server, problems, out)
        before = {row["id"]: row for row in lines(out)}
        edited = {"2": {"look": " the left column ", "reason": "add up"}}
        review = review_file(tmp_path, accepted=["2"], rejected=[], edited=edited)
        asked = len(server.received)
        build(server, problems, out, review=review)
        again = build(server, problems, out)
        assert (again.done, len(server.received)) == (0, asked)
        rows = {row["id"]: row for row in lines(out)}
        new = {"hint": {"look": "the left column", "reason": "add up"}, "edited_from": before["2"]["hint"]}
        assert rows == {**before, "2": {**before["2"], **new}}
        failed = build(server, problems, out, check=stern, recheck=True, attempts=1, fallback_attempts=0).failed
        assert "2" not in {row.id for row in failed}
    assert read_hints(out)["2"].look == "the left column", "a reviewer's word stands, whatever the checks say"


def test_an_edit_is_taken_over_after_a_kill_and_only_once(tmp_path):
    first, second, third = Hint("1", "r"), Hint("2", "r"), Hint("3", "r")
    path = tmp_path / "h.reviews.jsonl"
    with Decisions(path) as reviewed:
        edited = {"1": {"look": "2", "reason": "r"}}
        reviewed.apply(review_file(tmp_path, edited=edited), lambda _: first)
    with Decisions(path) as reviewed:
        assert reviewed.accepted == {"1"}
        assert reviewed.edit_of("1", first) == second
        assert reviewed.edit_of("1", second) is reviewed.edit_of("1", third) is reviewed.edit_of("2", first) is None
        reviewed.apply(review_file(tmp_path, rejected=["1"]), lambda _: second)
        reviewed.apply(review_file(tmp_path, edited={"1": {"look": "2", "reason": "r"}}, reasons={}), lambda _: third)
        assert reviewed.reason_against("1", second) is None, "who wrote it now thinks better of it"


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"edited": ["1"]}', "'edited' must be an object"), ('{"edited": {"1": "text"}}', "edited.1: .* needs text"),
     ('{"edited": {"1": {"look": " ", "reason": "r"}}}', "edited.1: .* needs text"),
     ('{"edited": {"x": {"look": "l", "reason": "r"}}}', "no line with the id 'x'"),
     ('{"rejected": ["1"], "edited": {"1": {"look": "l", "reason": "r"}}}', "at once: 1"),
     ("{", "cannot be read"), ("[]", "a review is"), ('{"rejected": "01"}', "'rejected' must be a list of ids"),
     ('{"accepted": [null]}', "'accepted' must be a text or a number, found null"),
     ('{"rejected": ["x"]}', "no line with the id 'x'"),
     ('{"accepted": ["1"], "rejected": ["1"]}', "at once: 1")],
)  # fmt: skip
def test_bad_reviews_are_refused(problems, out, tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with LoopbackServer(lambda *_: hint()) as server:
        build(server, problems, out)
        with pytest.raises(ValueError, match=message):
            build(server, problems, out, review=tmp_path / "r.json")
