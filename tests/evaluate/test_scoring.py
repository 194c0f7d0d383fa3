import pytest

from ptdpo.evaluate import scoring
from ptdpo.evaluate.fingerprint import folder_fingerprint
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
