"""``ptdpo evaluate`` as a user types it."""

import pytest
from typer.testing import CliRunner

from ptdpo import cli
from ptdpo.data.files import write_problems
from ptdpo.evaluate.run import DataChoice, evaluate
from ptdpo.evaluate.settings import SamplingSettings
from tests.evaluate.fixtures import EchoEngine, rows_of, write_split
from tests.test_cli import run

SHORT = ["--max-new-tokens", 4, "--instruction", ""]


@pytest.fixture
def ptdpo(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PTDPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: run(monkeypatch, capsys, "evaluate", *arguments)


@pytest.fixture
def problems(tmp_path, scenes):
    write_problems(tmp_path / "mine.jsonl", [scene.problem for scene in scenes[:3]])
    return tmp_path / "mine.jsonl"


@pytest.mark.parametrize("command", ["run", "table", "compare", "paper", "list"])
def test_every_command_explains_itself_with_an_example(command):
    shown = CliRunner().invoke(cli.app, ["evaluate", command, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output


def test_a_model_and_a_problems_file_need_no_command(ptdpo, tmp_path, tiny_path, problems):
    command = [tiny_path, problems, *SHORT, "--out"]
    short, long = ptdpo(*command, tmp_path / "a"), ptdpo("run", *command, tmp_path / "b")
    assert short[0] == long[0] == 0
    assert "avg@1" in short[1]
    first, second = ((tmp_path / out / "mine" / "responses.jsonl").read_bytes() for out in "ab")
    assert first == second
    code, shown, _ = ptdpo("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert code == 0
    assert "too few questions" in shown
    assert (tmp_path / "c" / "comparison.md").is_file()


def test_benchmarks_from_local_copies(ptdpo, tmp_path, tiny_path):
    folder = tmp_path / "copy"
    for name in ("geo3k", "counting"):
        write_split(folder, name, rows_of(name, 2))
    code, shown, err = ptdpo(
        tiny_path, "--benchmarks", "geo3k,counting", "--data", f"geo3k={folder}", "--data", f"counting={folder}",
        "--max-new-tokens", 4, "--samples", 3, "--grading", "mathruler", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert "Geo3K: 2 rows, the public source has 601" in shown
    assert "majority@3" in shown
    assert "mathruler" in shown
    code, shown, _ = ptdpo("table", tmp_path / "out", tmp_path / "out")
    assert code == 0
    assert "AVG Vision-dependent" in shown


def test_runs_side_by_side(ptdpo, tmp_path, problems):
    choice = DataChoice(["mine"], {"mine": problems})
    for out in "ab":
        evaluate(EchoEngine(), choice, SamplingSettings(), tmp_path / out, cache=tmp_path)
    _, shown, _ = ptdpo("table", tmp_path / "a", tmp_path / "b")
    last = shown[shown.rindex("┏") :]
    assert "mine" in last
    assert last.count("100.00") == 2
    assert "Geo3K" not in last, "no column without a result"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "nope"], "unknown benchmark 'nope'"),
        ([], "no benchmark named"),
        (["--benchmarks", "easy-vqa", "--data", "geo3k"], "--data geo3k: write NAME=PATH"),
        (["--benchmarks", "geo3k", "--data", "geo3k=gone"], "gone: no such file or folder"),
        (["--benchmarks", "easy-vqa", "--bad-rows", "skip"], "--bad-rows skip: must be one of refuse, drop"),
        (
            ["--benchmarks", "easy-vqa", "--grading", "kind"],
            "--grading: unknown grading 'kind': choose from sound, mathruler",
        ),
        (["--benchmarks", "easy-vqa", "--base-url", "x", "--extra", "["], "extra fields '[': not valid JSON"),
        (["--benchmarks", "easy-vqa", "--limit", 1, "--base-url", "localhost:1"], "must begin with http://"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(ptdpo, tmp_path, tiny_path, arguments, message):
    code, _, err = ptdpo(tiny_path, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert err.rstrip().count("\n") == 0


def test_the_old_way_to_name_a_file_is_told_the_new_one(ptdpo, tmp_path, tiny_path, problems):
    code, _, err = ptdpo(tiny_path, problems, "--out", tmp_path / "responses.jsonl")
    assert code == 2
    assert "name a folder" in err


def test_papo_names_all_nine_and_their_data(ptdpo, tmp_path, tiny_path):
    write_split(tmp_path / "nine", "mmk12")
    data = f"papo={tmp_path / 'nine'}"
    code, _, err = ptdpo(tiny_path, "--benchmarks", "papo", "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert "no parquet file of the split 'hiyouga_geometry3k'" in err


def test_the_paper_and_the_list(ptdpo):
    code, shown, _ = ptdpo("paper")
    assert code == 0
    assert "1 of 123 printed averages do not follow from the printed columns" in shown
    assert "69.21 (printed 69.20)" in shown
    code, shown, _ = ptdpo("list")
    assert code == 0
    assert "PAPO-Galaxy/PAPO_eval:AI4Math_MathVerse_vision_dependent" in shown
    assert "9673" in shown


def test_results_of_other_settings_are_refused_by_compare(ptdpo, tmp_path, problems):
    choice = DataChoice(["mine"], {"mine": problems})
    for out, temperature in (("a", 1.0), ("b", 0.5)):
        evaluate(EchoEngine(), choice, SamplingSettings(temperature=temperature), tmp_path / out, cache=tmp_path)
    code, _, err = ptdpo("compare", tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert "sampling.temperature: 1.0 against 0.5" in err
