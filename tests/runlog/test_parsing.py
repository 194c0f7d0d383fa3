"""Lines of records that no run has written are refused one by one; those of other versions are read."""

import json
import math
from dataclasses import asdict

import pytest

from ptdpo.runlog import read_records
from ptdpo.runlog.lines import KINDS, GroupLine, QuestionLine, TokenLine, as_json
from ptdpo.runlog.parsing import group_line, question_line, token_line
from tests.runlog.lines import group, question, tokens

LINES = {QuestionLine: question(), GroupLine: group(), TokenLine: tokens()}
READ = {QuestionLine: question_line, GroupLine: group_line, TokenLine: token_line}
FIVE = [[1, 2, 3, 4, 5]] * 3
PROBS = [[0.5, 0.2, 0.1, 0.05, 0.01]] * 3
# What no number may be: a text, nothing, a truth, more than any float.
NO_NUMBERS = ("x", None, True, 10**400, [1])
NO_TEXTS = (None, 3, ["a"], {"a": 1})
BAD = [
    *((QuestionLine, {"step": value}) for value in (*NO_NUMBERS, 1.5, -1)),
    *((QuestionLine, {key: value}) for key in ("id", "hint_id", "question", "hint") for value in NO_TEXTS),
    *((QuestionLine, {"images": value}) for value in (None, "a.png", [1], [None])),
    *((GroupLine, {key: value}) for key in ("step", "group") for value in NO_NUMBERS),
    *((GroupLine, {key: value}) for key in ("id", "reader") for value in NO_TEXTS),
    *((GroupLine, {"rollouts": value}) for value in (None, 1, [None], {"a": 1}, ["text"])),
    *((TokenLine, {key: value}) for key in ("step", "sampled", "rollout") for value in NO_NUMBERS),
    *((TokenLine, {"ids": value}) for value in (None, 1, "abc", ["a"] * 3, [1, 2], [1, 2, None])),
    *(
        (TokenLine, {key: value})
        for key in ("log_probs", "entropy", "divergence")
        for value in (3, "abc", [0.1], [0.1] * 4, [None] * 3, ["a"] * 3, [0.1, 0.2, 10**400], [0.1, 0.2, math.nan])
    ),
    *((TokenLine, {key: None}) for key in ("log_probs", "entropy", "texts")),
    *((TokenLine, {"texts": value}) for value in ([1], {"1": 2}, {"1": None})),
    *(
        (TokenLine, {key: {"ids": ids, "probs": probs}})
        for key in ("student", "teacher")
        for ids, probs in (
            (None, None), (FIVE[:1], PROBS[:1]), (FIVE, PROBS[:1]), ([None] * 3, [None] * 3), ([[]] * 3, [[]] * 3),
            (FIVE, [[0.5]] * 3), ([["a"] * 5] * 3, PROBS), (FIVE, [["b"] * 5] * 3),
        )
    ),
    (TokenLine, {"student": [1]}),
]  # fmt: skip
ROLLOUT = [
    *({key: value} for key in ("rollout", "tokens") for value in NO_NUMBERS),
    *({key: value} for key in ("reward", "accuracy", "advantage") for value in ("x", [1], True, 10**400)),
    *({key: value} for key in ("response", "reason", "place", "drawn_with") for value in NO_TEXTS),
    {"extracted": 3},
]
REFUSED = (ValueError, TypeError, KeyError)


def written(kind):
    return json.loads(json.dumps(as_json(LINES[kind])))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_writes_is_read(kind):
    assert as_json(READ[kind](written(kind))) == written(kind)


@pytest.mark.parametrize(("kind", "change"), BAD, ids=lambda value: getattr(value, "__name__", str(value)[:60]))
def test_a_line_of_another_shape_is_refused(kind, change):
    row = written(kind)
    assert change.keys() <= row.keys()
    with pytest.raises(REFUSED):
        READ[kind]({**row, **change})


@pytest.mark.parametrize("change", ROLLOUT, ids=lambda value: str(value)[:60])
def test_a_rollout_of_another_shape_is_refused(change):
    row = written(GroupLine)
    row["rollouts"][1] |= change
    with pytest.raises(REFUSED):
        group_line(row)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_lacks_what_has_no_default_is_refused(kind):
    for key in ("step", *(set(written(kind)) & {"id", "rollouts", "ids", "entropy", "sampled"})):
        row = written(kind)
        del row[key]
        with pytest.raises(REFUSED):
            READ[kind](row)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_rollout_without_a_proper_reward_is_read(value):
    """Where the loss is NaN people look first."""
    row = written(GroupLine)
    row["rollouts"][1] |= dict.fromkeys(("reward", "accuracy", "advantage"), value)
    found = group_line(json.loads(json.dumps(row))).rollouts[1]
    assert (found.reward, found.accuracy, found.advantage) == (None, None, None)


def test_lines_of_other_versions_are_read():
    first = {"place", "drawn_with", "context", "hint", "images"}
    older = {kind: {key: value for key, value in written(kind).items() if key not in first} for kind in KINDS}
    older[GroupLine]["rollouts"] = [
        {key: value for key, value in asdict(one).items() if key not in first} for one in LINES[GroupLine].rollouts
    ]
    assert question_line(older[QuestionLine]).images == ()
    assert group_line(older[GroupLine]).rollouts[0].place == ""
    for kind in KINDS:
        assert as_json(READ[kind]({**written(kind), "of a later version": [1]})) == written(kind)


def test_bad_lines_are_counted_and_cost_only_themselves(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for kind, name in KINDS.items():
        rows = [json.dumps({**written(kind), **change}) for of, change in BAD if of is kind]
        rows.insert(1, json.dumps(written(kind)))
        rows += ["[1]", "null", '"text"', '{"step": NaN}', "{" * 20_000]
        cut = b'{"step": 9, "text": "\xc3'
        (folder / f"{name}-00000.jsonl").write_bytes("\n".join(rows).encode() + b"\n" + cut + b"\n" + b"\0" * 512)
    found = read_records(tmp_path)
    assert found.broken == len(BAD) + 3 * 7
    assert list(found.questions.values()) == [READ[QuestionLine](written(QuestionLine))]
    assert list(found.groups.values()) == [READ[GroupLine](written(GroupLine))]
    assert list(found.tokens.values()) == [READ[TokenLine](written(TokenLine))]
