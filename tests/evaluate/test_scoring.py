import math
import statistics

import numpy as np
import pytest

from ptdpo.evaluate import scoring
from ptdpo.evaluate.fingerprint import folder_fingerprint
from ptdpo.evaluate.intervals import paired_interval
from ptdpo.evaluate.scoring import SamplingSettings, ScoredResponse, accuracy_by_source, mean_accuracy, score_problems
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


def central_share(t, degrees):
    """Return P(|T| <= t), integrated over the density of Student's t."""
    x = t * (np.arange(20_000) + 0.5) / 20_000
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    return 2 * t * np.mean(constant * (1 + x**2 / degrees) ** (-(degrees + 1) / 2))


@pytest.mark.parametrize("degrees", range(1, 31))
def test_the_interval_holds_95_percent_of_students_t_to_three_decimals(degrees):
    differences = [float(n % 3) for n in range(degrees + 1)]
    mean, _, high = paired_interval(differences)
    t = (high - mean) * math.sqrt(degrees + 1) / statistics.stdev(differences)
    assert central_share(t - 0.00051, degrees) < 0.95 < central_share(t + 0.00051, degrees)


@pytest.fixture
def asked(monkeypatch):
    """The arguments of every call that samples responses."""
    calls = []

    def sample(model, processor, questions, **settings):
        calls.append(settings)
        yield ["\\boxed{a}"] * len(questions)

    monkeypatch.setattr(scoring, "sample_responses", sample)
    return calls


def test_every_sample_has_its_own_random_stream(asked):
    problems = [Problem(str(n), (), "q", "a") for n in range(3)]
    for seed in (0, 1):
        rows = list(score_problems(None, None, problems, SamplingSettings(samples=3, seed=seed)))
        assert [row.sample for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({call["seed"] for call in asked}) == 6


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (0.5, False)])
def test_a_temperature_of_0_takes_the_most_likely_token(asked, temperature, greedy):
    list(score_problems(None, None, [Problem("1", (), "q", "a")], SamplingSettings(temperature=temperature)))
    assert [call["greedy"] for call in asked] == [greedy]


def test_a_models_fingerprint_sees_what_decides_its_answers_and_nothing_else(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = folder_fingerprint(tmp_path)
    for name in ("training_args.bin", "trainer_state.json", "optimizer.bin", "scheduler.bin", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"x")
        assert folder_fingerprint(tmp_path) == before, name
    for name in ("config.json", "chat_template.jinja", "vocab.txt"):
        (tmp_path / name).write_bytes(b"x")
        assert folder_fingerprint(tmp_path) != before, name
        before = folder_fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert folder_fingerprint(tmp_path) != before
