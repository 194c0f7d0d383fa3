"""A model on benchmarks: complete, resumable, and refused when settings differ."""

import json
import time
from dataclasses import replace

import pytest

from ptdpo.data.files import write_problems
from ptdpo.evaluate.local import LocalEngine
from ptdpo.evaluate.results import read_results
from ptdpo.evaluate.run import DataChoice, evaluate, parse_names
from ptdpo.evaluate.settings import SamplingSettings, read_settings, write_settings
from ptdpo.evaluate.store import ResponseStore
from ptdpo.evaluate.table import paper_columns
from ptdpo.evaluate.task import stream_seed
from ptdpo.records import Problem
from tests.evaluate.fixtures import NINE, EchoEngine, kept, lines, rows_of, write_split
from tests.processes import command

SHORT = SamplingSettings(samples=2, max_new_tokens=4, batch_size=2)


@pytest.fixture
def problems(tmp_path, scenes):
    write_problems(tmp_path / "mine.jsonl", [scene.problem for scene in scenes[:5]])
    return DataChoice(["mine"], {"mine": tmp_path / "mine.jsonl"}, instruction="")


@pytest.fixture
def nine(tmp_path):
    for name in NINE:
        write_split(tmp_path / "nine", name, rows_of(name, 6))
    return DataChoice(NINE, dict.fromkeys(NINE, tmp_path / "nine"))


def test_a_problems_file_is_evaluated_and_its_responses_are_kept(tmp_path, tiny_path, problems, scenes):
    results = evaluate(LocalEngine(tiny_path), problems, SHORT, tmp_path / "out", cache=tmp_path)
    rows = [json.loads(line) for line in lines(tmp_path / "out" / "mine" / "responses.jsonl")]
    assert [(row["id"], row["sample"]) for row in rows] == [
        (scene.problem.id, sample) for sample in (0, 1) for scene in scenes[:5]
    ]
    assert set(rows[0]) == {
        "id",
        "sample",
        "response",
        "extracted",
        "accuracy",
        "format",
        "tokens",
        "truncated",
        "fallback",
        "second",
        "note",
    }
    assert rows[0]["response"] != rows[5]["response"], "samples differ"
    assert all(row["tokens"] <= 4 and row["truncated"] == (row["tokens"] == 4) for row in rows if row["truncated"])
    (result,) = results.benchmarks
    assert result.accuracy.mean == sum(row["accuracy"] for row in rows) / 10
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".lock", "mine", "settings.json", "table.md", "table.csv", "results.json",
    }  # fmt: skip


def test_a_run_stopped_anywhere_gives_the_samples_of_one_that_was_not(tmp_path, tiny_path, problems):
    evaluate(LocalEngine(tiny_path), problems, SHORT, tmp_path / "whole", cache=tmp_path)
    whole = ResponseStore(tmp_path / "whole" / "mine").read()
    for number in (0, 1, 4, 7):
        out = tmp_path / f"stopped-{number}"
        write_settings(out, read_settings(tmp_path / "whole"))
        store = kept(out / "mine", whole[:number])
        with store.path.open("a") as file:
            file.write('{"id": "half a li')
        evaluate(LocalEngine(tiny_path), problems, SHORT, out, cache=tmp_path)
        assert sorted(store.read(), key=lambda r: r.key) == sorted(whole, key=lambda r: r.key)


def test_batches_have_streams_of_their_own():
    seeds = [stream_seed(seed, name, sample, start)
             for seed in (0, 64) for name in "ab" for sample in (0, 1) for start in (0, 64)]  # fmt: skip
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(tmp_path, tiny_path, problems):
    """A process killed in the middle: nothing is lost or repeated, and the result is that of an unbroken run."""
    sampling = ["--samples", "3", "--max-new-tokens", "24", "--batch-size", "1", "--instruction", ""]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    given = ["evaluate", tiny_path, problems.paths["mine"], *sampling, "--out", broken]
    there = {"said": tmp_path / "said.txt", "PTDPO_CACHE": str(tmp_path / "cache")}
    path = broken / "mine" / "responses.jsonl"
    process = command(*given, **there)
    while process.exitcode is None and not (path.is_file() and len(lines(path)) >= 3):
        time.sleep(0.01)
    process.kill()
    process.join()
    before = lines(path)
    assert 3 <= len(before) < 15, "killed in the middle"
    again = command(*given, **there)
    again.join()
    assert again.exitcode == 0, there["said"].read_text()
    assert lines(path)[: len(before)] == before
    evaluate(LocalEngine(tiny_path), problems, SamplingSettings(3, 24, batch_size=1), whole, cache=tmp_path)
    assert lines(path) == lines(whole / "mine" / "responses.jsonl")


def test_the_paper_table_over_all_nine(tmp_path, nine):
    def answer(problem, sample):
        number = int(problem.id.rsplit("-" if "-" in problem.id else "_", 1)[1])
        return f"\\boxed{{{problem.answer if number < 3 or sample == 0 else 'wrong'}}}"

    results = evaluate(EchoEngine(answer), nine, SamplingSettings(samples=4), tmp_path / "out", cache=tmp_path / "c")
    assert [result.name for result in results.benchmarks] == NINE
    for result in results.benchmarks:
        assert result.accuracy.mean == pytest.approx((3 + 3 * 0.25) / 6)
        assert result.pass_at == pytest.approx({1: 0.625, 2: 0.75, 4: 1.0})
        assert result.majority.mean == pytest.approx(0.5)
        assert (result.ties, result.format, result.tokens, result.truncated) == (0.0, 0.0, 5.0, 0.0)
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(content["averages"]) == {"general", "vision", "overall"}
    assert content["averages"]["overall"]["mean"] == pytest.approx(0.625)
    markdown = (tmp_path / "out" / "table.md").read_text()
    heading = "| " + " | ".join(["", *(title for _, title in paper_columns())]) + " |"
    assert heading in markdown
    assert "| echo | " + " | ".join(["62.50"] * 12) + " |" in markdown
    rows = [line.split(",") for line in lines(tmp_path / "out" / "table.csv")]
    assert [row[0] for row in rows] == ["name", *NINE, "AVG general", "AVG vision", "AVG overall"]
    assert all(len(row) == len(rows[0]) for row in rows)


def test_equal_answers_vote_together_whatever_they_look_like(tmp_path, problems):
    """Three notations of the same wrong number outvote two right answers."""

    def answer(problem, sample):
        return "\\boxed{" + ("991", "$991$", "991.0", problem.answer, problem.answer)[sample] + "}"

    results = evaluate(EchoEngine(answer), problems, SamplingSettings(samples=5), tmp_path / "out", cache=tmp_path)
    (result,) = results.benchmarks
    assert (result.accuracy.mean, result.majority.mean, result.ties) == (pytest.approx(0.4), 0.0, 0.0)


def test_every_setting_is_written_beside_the_results(tmp_path, tiny_path, problems):
    evaluate(LocalEngine(tiny_path), problems, SHORT, tmp_path / "out", cache=tmp_path)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["sampling"] == {
        "samples": 2, "max_new_tokens": 4, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 0, "batch_size": 2,
        "extra": "",
    }  # fmt: skip
    assert {"ptdpo", "torch", "transformers", "datasets", "pillow"} <= settings["versions"].keys()
    assert len(settings["model"]["revision"]) == 32
    assert settings["grading"] == {"mode": "sound", "second_opinion": False}
    data = settings["benchmarks"]["mine"]
    assert (data["questions"], data["found"], data["instruction"], data["left_out"]) == (5, 5, "", [])
    assert data["prompt"].startswith("<image>what is the")
    assert len(data["fingerprint"]) == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.5}, r"sampling.temperature=1.0, but now sampling.temperature=0.5 is"),
        (
            {"seed": 3, "samples": 4},
            r"sampling.samples=2, sampling.seed=0, but now sampling.samples=4, sampling.seed=3 is",
        ),
    ],
)
def test_other_sampling_settings_are_refused_with_the_difference(tmp_path, problems, change, message):
    evaluate(EchoEngine(), problems, SHORT, tmp_path / "out", cache=tmp_path)
    before = (tmp_path / "out" / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=f"out: made with {message} asked for: take another --out"):
        evaluate(EchoEngine(), problems, replace(SHORT, **change), tmp_path / "out", cache=tmp_path)
    assert (tmp_path / "out" / "settings.json").read_bytes() == before


def test_other_models_data_prompts_and_versions_are_refused(tmp_path, problems, scenes, monkeypatch):
    out = tmp_path / "out"
    evaluate(EchoEngine(), problems, SHORT, out, cache=tmp_path)
    with pytest.raises(ValueError, match=r"model.revision='r', but now model.revision='retrained'"):
        evaluate(EchoEngine(revision="retrained"), problems, SHORT, out, cache=tmp_path)
    with pytest.raises(ValueError, match=r"mine.instruction='', .*but now benchmarks.mine.instruction='Think!'"):
        evaluate(EchoEngine(), replace(problems, instruction="Think!"), SHORT, out, cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ptdpo.evaluate.run.package_versions", lambda: {"torch": "9.9"})
        with pytest.raises(ValueError, match=r"versions.torch='.*but now.* versions.torch='9.9'"):
            evaluate(EchoEngine(), problems, SHORT, out, cache=tmp_path)
    write_problems(problems.paths["mine"], [replace(scene.problem, answer="0") for scene in scenes[:5]])
    with pytest.raises(ValueError, match=r"benchmarks.mine.fingerprint"):
        evaluate(EchoEngine(), problems, SHORT, out, cache=tmp_path)


def test_a_finished_run_asks_nothing_and_another_benchmark_joins_it(tmp_path, problems, nine):
    out, again = tmp_path / "out", EchoEngine()
    evaluate(EchoEngine(), problems, SHORT, out, cache=tmp_path)
    evaluate(again, problems, SHORT, out, cache=tmp_path)
    assert again.asked == []
    results = evaluate(again, replace(nine, names=["geo3k"], paths={"geo3k": nine.paths["geo3k"]}), SHORT, out,
                       cache=tmp_path / "c")  # fmt: skip
    assert len(again.asked) == 12
    assert [result.name for result in results.benchmarks] == ["geo3k", "mine"]


def test_an_unfinished_benchmark_is_named_not_averaged(tmp_path, nine):
    out = tmp_path / "out"
    two = replace(nine, names=NINE[:2], paths={name: nine.paths[name] for name in NINE[:2]})
    evaluate(EchoEngine(), two, SHORT, out, cache=tmp_path / "c")
    path = out / NINE[0] / "responses.jsonl"
    path.write_text("".join(line + "\n" for line in lines(path)[:7]))
    results = read_results(out)
    assert [result.name for result in results.benchmarks] == [NINE[1]]
    assert results.missing == ["mmk12 is not complete: 7 of 12 responses"]
    (out / NINE[1] / "responses.jsonl").unlink()
    with pytest.raises(ValueError, match=r"0 of 12 responses; run the same command again"):
        read_results(out)
    with pytest.raises(ValueError, match=r"no settings.json there"):
        read_results(tmp_path)


def test_a_bad_problem_is_refused_before_weights_are_looked_for(tmp_path):
    class Missing(EchoEngine):
        def describe(self):
            raise AssertionError("too early")

    write_problems(tmp_path / "p.jsonl", [Problem("x", (str(tmp_path / "absent.png"),), "q", "a")])
    choice = DataChoice(["p"], {"p": tmp_path / "p.jsonl"})
    with pytest.raises(ValueError, match="1 bad row: x"):
        evaluate(Missing(), choice, SHORT, tmp_path / "out", cache=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples=0: must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0}, r"top_p=0.0: must be in \(0, 1\]"),
        ({"temperature": 0.0}, "samples=2: at temperature=0"),
    ],
)
def test_sampling_settings_that_make_no_sense(tmp_path, problems, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(EchoEngine(), problems, replace(SHORT, **change), tmp_path / "out", cache=tmp_path)


def test_names(tmp_path, nine):
    assert parse_names("easy-vqa, papo,geo3k") == ["easy-vqa", *NINE]
    with pytest.raises(ValueError, match="no benchmark named"):
        parse_names(" , ")
    with pytest.raises(ValueError, match="--instruction would do nothing"):
        evaluate(EchoEngine(), replace(nine, instruction="Think."), SHORT, tmp_path / "out", cache=tmp_path)
    with pytest.raises(ValueError, match="'we-math' is not among the benchmarks geo3k"):
        evaluate(EchoEngine(), replace(nine, names=["geo3k"], paths={"we-math": tmp_path}), SHORT, tmp_path / "out",
                 cache=tmp_path)  # fmt: skip


def test_settings_that_are_none_are_refused_by_file(tmp_path):
    (tmp_path / "settings.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match=r"settings.json: not the settings of an evaluation \(fields missing"):
        read_settings(tmp_path)
    (tmp_path / "settings.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"settings.json: not the settings of an evaluation \('utf-8' codec"):
        read_settings(tmp_path)
