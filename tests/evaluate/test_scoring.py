"""A file of problems answered and graded for a comparison: the path of ``ptdpo evaluate``, with means by source."""

from dataclasses import replace

import pytest

from ptdpo.data.files import write_problems
from ptdpo.evaluate import local, scoring
from ptdpo.evaluate.compare import compare
from ptdpo.evaluate.fingerprint import folder_fingerprint
from ptdpo.evaluate.local import LocalEngine
from ptdpo.evaluate.run import DataChoice, evaluate
from ptdpo.evaluate.scoring import load_problems, score_file
from ptdpo.evaluate.settings import SamplingSettings
from ptdpo.evaluate.store import ResponseStore
from ptdpo.models.sampling import Generated
from tests.evaluate.fixtures import EchoEngine

TWICE = SamplingSettings(samples=2, max_new_tokens=4, batch_size=2)


@pytest.fixture
def questions(tmp_path, scenes):
    """Two questions of source a, one of source b."""
    problems = [replace(s.problem, source=source) for s, source in zip(scenes, "aba", strict=False)]
    write_problems(tmp_path / "asked.jsonl", problems)
    return load_problems(tmp_path / "asked.jsonl", "test", "", tmp_path / "images")


def test_it_is_the_path_of_evaluate(tmp_path, tiny_path, questions):
    scores = score_file(tmp_path / "scored", tiny_path, questions, TWICE)
    choice = DataChoice(["test"], {"test": tmp_path / "asked.jsonl"}, instruction="")
    results = evaluate(LocalEngine(tiny_path), choice, TWICE, tmp_path / "evaluated", cache=tmp_path)
    assert scores.accuracy == results.benchmarks[0].accuracy.mean
    assert scores.by_question == results.benchmarks[0].by_question
    paths = [tmp_path / name / "test" / "responses.jsonl" for name in ("scored", "evaluated")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_means_by_source_and_answers_that_are_paired_by_question(tmp_path, questions, monkeypatch):
    ids = [problem.id for problem in questions.problems]

    def score(out, right):
        """Right are the given (question, sample)."""
        engine = EchoEngine(lambda p, s: f"\\boxed{{{p.answer if (ids.index(p.id), s) in right else -1}}}")
        monkeypatch.setattr(scoring, "LocalEngine", lambda _: engine)
        return score_file(tmp_path / out, "m", questions, TWICE), engine

    scores, _ = score("first", {(0, 0), (1, 0), (1, 1)})
    assert scores.by_question == {ids[0]: 0.5, ids[1]: 1.0, ids[2]: 0.0}
    assert scores.by_source == {"a": 0.25, "b": 1.0}
    assert scores.accuracy == 0.5
    again, engine = score("first", set())
    assert (again, engine.asked) == (scores, []), "answered twice"
    score("second", {(2, 0), (2, 1), (1, 0), (1, 1), (0, 0), (0, 1)})
    (difference,) = compare(tmp_path / "first", tmp_path / "second").differences
    assert (difference.questions, difference.gain.mean) == (3, 0.5)
    assert len(ResponseStore(tmp_path / "second" / "test").read()) == 6


def test_bad_rows_are_refused_without_naming_an_option_that_is_not_there(tmp_path, scenes):
    write_problems(tmp_path / "asked.jsonl", [replace(scenes[0].problem, answer=" "), scenes[1].problem])
    with pytest.raises(ValueError, match=r"asked.jsonl.*empty answer.*mend them or take them out$"):
        load_problems(tmp_path / "asked.jsonl", "test", "", tmp_path)


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (0.5, False)])
def test_a_temperature_of_0_takes_the_most_likely_token(
    tmp_path, tiny_path, questions, monkeypatch, temperature, greedy
):
    calls = []

    def generate(model, processor, prompts, **settings):
        calls.append(settings)
        return [Generated("\\boxed{a}", 1, False)] * len(prompts)

    monkeypatch.setattr(local, "generate_batch", generate)
    score_file(tmp_path / "out", tiny_path, questions, SamplingSettings(temperature=temperature))
    assert [call["greedy"] for call in calls] == [greedy]


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
