"""What the fused head refuses, and how it says so."""

from inspect import unwrap  # the plain function, as users call it: without the test suite's shape checks

import pytest
import torch
import torch.utils.checkpoint

from ptdpo.algo.lm_head import teacher_topk, token_stats
from tests.algo.head_case import Case


def refused(message, **changes):
    case = Case()
    given = {"hidden": case.hidden, "weight": case.weight, "targets": case.targets, "k": 9, "rows": case.rows}
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    given = {"teacher": record, **given, **changes}
    with pytest.raises(ValueError, match=message):
        unwrap(token_stats)(**given)


OTHER_VOCABULARY = teacher_topk(torch.ones(6, 3), torch.ones(151, 3))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"hidden states \(11, 7\) and head \(150, 12\)", {"hidden": torch.randn(11, 7)}),
        ("floating point, got torch.int64", {"hidden": torch.ones(11, 12, dtype=torch.long)}),
        ("NaN or infinity", {"hidden": torch.full((11, 12), torch.nan)}),
        ("bias has shape", {"bias": torch.zeros(3)}),
        ("11 hidden states need as many targets", {"targets": torch.zeros(3, dtype=torch.long)}),
        ("targets must lie in .* got 150 to 150", {"targets": torch.full((11,), 150)}),
        ("targets must be integers", {"targets": torch.zeros(11)}),
        ("rows must lie in .* got 0 to 11", {"rows": torch.tensor([0, 1, 2, 3, 4, 11])}),
        ("rows must lie in .* got -1 to 4", {"rows": torch.tensor([0, 1, 2, 3, 4, -1])}),
        ("rows holds an index twice", {"rows": torch.tensor([0, 1, 2, 3, 4, 4])}),
        ("teacher holds 6 tokens but 2 rows", {"rows": torch.tensor([0, 1])}),
        ("6 rows are to be compared but there is no teacher", {"teacher": None}),
        ("k must be at least 1, got 0", {"k": 0}),
        ("temperature must be positive, got 0", {"temperature": 0.0}),
        ("read at temperature 1.0, the student at 0.5", {"temperature": 0.5}),
        ("row_chunk must be at least 1", {"row_chunk": 0}),
        ("vocab_chunk must be at least 1", {"vocab_chunk": 0}),
        ("kind must be one of", {"kind": "js"}),
        ("teacher's head has 151 ids, the student's 150", {"teacher": OTHER_VOCABULARY}),
        ("stored without its head", {"teacher": OTHER_VOCABULARY.with_head(None)}),
    ],
)
def test_bad_input_is_named(message, changes):
    refused(message, **changes)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("k must be at least 1, got -3", {"k": -3}),
        ("teacher's hidden states .* NaN", {"hidden": torch.full((2, 3), torch.nan)}),
        ("teacher's hidden states must be floating", {"hidden": torch.ones(2, 3, dtype=torch.int32)}),
        ("temperature must be positive", {"temperature": -1.0}),
        ("row_chunk must be at least 1", {"row_chunk": -1}),
    ],
)
def test_bad_teachers_are_named(message, changes):
    with pytest.raises(ValueError, match=message):
        unwrap(teacher_topk)(**{"hidden": torch.randn(2, 3), "weight": torch.randn(5, 3), **changes})
