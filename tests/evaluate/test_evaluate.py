import json

import pytest

from ptdpo.data.files import write_problems
from ptdpo.evaluate.intervals import paired_interval
from ptdpo.evaluate.run import evaluate_file
from ptdpo.evaluate.scoring import SamplingSettings, ScoredResponse, accuracy_by_source, mean_accuracy
from ptdpo.records import Problem, Verdict


def scored(source, accuracy):
    return ScoredResponse(Problem("1", (), "q", "a", source), 0, "r", Verdict(accuracy, 0.0, None))


def test_means():
    rows = [scored("a", 1.0), scored("a", 0.0), scored("b", 1.0)]
    assert mean_accuracy(rows) == pytest.approx(2 / 3)
    assert accuracy_by_source(rows) == {"a": 0.5, "b": 1.0}
    with pytest.raises(ValueError, match="no responses"):
        mean_accuracy([])


def test_paired_interval_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t(2) = 4.303, half-width 4.303 / sqrt(3)."""
    mean, low, high = paired_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 2.484338, 2.0 + 2.484338), abs=1e-5)
    with pytest.raises(ValueError, match="got 1"):
        paired_interval([1.0])


def test_a_problems_file_is_evaluated_and_its_responses_are_kept(tmp_path, tiny_path, scenes):
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes[:3]])
    settings = SamplingSettings(max_new_tokens=4, samples=2, batch_size=2)
    summary = evaluate_file(tiny_path, tmp_path / "p.jsonl", tmp_path / "out" / "r.jsonl", settings, "")
    rows = [json.loads(line) for line in (tmp_path / "out" / "r.jsonl").read_text().splitlines()]
    assert [(row["id"], row["sample"]) for row in rows] == [
        (scene.problem.id, sample) for sample in (0, 1) for scene in scenes[:3]
    ]
    assert set(rows[0]) == {"id", "sample", "response", "extracted", "accuracy", "format"}
    assert summary.responses == 6
    assert summary.accuracy == sum(row["accuracy"] for row in rows) / 6
    assert rows[0]["response"] != rows[3]["response"], "samples differ"


def test_a_bad_problem_is_refused_before_the_model_is_loaded(tmp_path):
    write_problems(tmp_path / "p.jsonl", [Problem("x", (str(tmp_path / "absent.png"),), "q", "a")])
    with pytest.raises(ValueError, match="1 bad row: x"):
        evaluate_file("no-such-model", tmp_path / "p.jsonl", tmp_path / "r.jsonl", SamplingSettings())
