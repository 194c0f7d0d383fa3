"""The commands as a user types them: help with an example, one line and exit code 2 on a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ptdpo import cli
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.models import loading
from ptdpo.records import Solution

COMMANDS = [
    ["demo"], ["compare"], ["train"], ["sft"], ["evaluate"], ["data", "tiny-vlm"], ["data", "easy-vqa"],
    ["data", "demo-world"], ["data", "check"], ["hints", "check"], ["hints", "review"],
    ["plan"], ["data", "attach-hints"], ["hints", "build"], ["hints", "recoverability"], ["hints", "usefulness"],
    ["solutions", "build"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command):
    shown = CliRunner().invoke(cli.app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output


def run(monkeypatch, capsys, *arguments):
    """Run main() and return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["ptdpo", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def ptdpo(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


@pytest.fixture
def recipe(tmp_path, scenes, tiny_path):
    """A tiny recipe with its files."""
    write_problems(tmp_path / "problems.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "hints.jsonl", {s.problem.id: s.hint for s in scenes}, "rule")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
preset: ptd-grpo
model: {tiny_path}
data: {{source: jsonl, path: {tmp_path}/problems.jsonl, hints: {tmp_path}/hints.jsonl, instruction: ""}}
train:
  output_dir: {tmp_path}/run
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  num_generations: 4
  max_completion_length: 4
  max_steps: 2
  save_strategy: steps
  save_steps: 1
  report_to: none
  use_cpu: true
  bf16: false
  activation_checkpointing: false
"""
    )
    return path


def test_a_dry_run_prints_the_plan_and_loads_no_weights(ptdpo, recipe, monkeypatch):
    import ptdpo.train.run as train_run

    monkeypatch.setattr(train_run, "PTDTrainer", None)
    code, out, err = ptdpo("train", recipe, "--dry-run")
    assert (code, err) == (0, "")
    plan = {cells[0].strip(): cells[1].strip() for cells in (line.strip("│").split("│") for line in out.splitlines())
            if len(cells) == 2}  # fmt: skip
    assert plan["prompts per optimiser step"] == "2"
    assert plan["rollouts per generation"] == "8"
    assert plan["optimiser steps"] == "2"
    assert plan["problems with a hint"] == "16"


def test_set_is_the_same_as_a_plain_override(ptdpo, recipe):
    plain, option = ("max_steps=4",), ("--set", "max_steps=4")
    first, second = ptdpo("train", recipe, *plain, "--dry-run"), ptdpo("train", recipe, *option, "--dry-run")
    assert first == second
    assert first != ptdpo("train", recipe, "--dry-run")
    assert ptdpo("train", recipe, "--set", "head=thick", "--dry-run")[0] == 2


@pytest.mark.parametrize("name", ["2b", "4b", "8b"])
def test_the_recipes_of_the_paper_plan_table_3(ptdpo, recipe, name):
    """With local data in place of the hub's: 384 prompts per generation, 128 per step, three steps each."""
    from tests.test_config import ROOT

    path = ROOT / f"qwen3_vl_{name}_ptd_grpo.yaml"
    local = [f"data.source=jsonl data.path={recipe.parent}/problems.jsonl data.hints={recipe.parent}/hints.jsonl"]
    code, _, err = ptdpo("train", path, *local[0].split(), "--dry-run")
    assert code == 2
    assert "one generation takes 384 prompts, but the data has only 16 problems" in err


def test_train_then_go_on_from_the_checkpoint_then_evaluate(ptdpo, recipe):
    assert ptdpo("train", recipe)[0] == 0
    folder = recipe.parent / "run"
    assert (folder / "model.safetensors").exists()
    assert (folder / "checkpoint-2" / "tokenizer.json").exists(), "the tokenizer is saved with the checkpoint"
    assert ptdpo("train", recipe, "max_steps=3")[0] == 0
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    out = recipe.parent / "results"
    code, shown, _ = ptdpo("evaluate", folder, recipe.parent / "problems.jsonl", "--out", out, "--max-new-tokens", 4)
    assert code == 0
    assert "avg@1" in shown
    assert len((out / "problems" / "responses.jsonl").read_text().splitlines()) == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lerning_rate=1", "did you mean 'learning_rate'"),
        ("preset=ptdgrpo", "did you mean 'ptd-grpo'"),
        ("data.hints=absent.jsonl", "absent.jsonl: no such file"),
        ("data.hints=", "no problem has a hint"),
        ("num_generations=3", "whole groups of 3"),
        ("tutoring_k=0", "tutoring_k=0: must be at least 1"),
        ("tutoring_weight=-2000", "tutoring_weight=-2000: must be in [-1000, 1000]"),
        ("tutoring_threshold=0", "must be in (0, 1]"),
        ("tutoring_select=some", "expected one of failed"),
        ("generation_batch_size=12", "must be a multiple of"),
        ("steps_per_generation=3", "multiple of gradient_accumulation_steps"),
        ("data.max_prompt_tokens=5", "16 bad rows"),
        ("processes=2", "only 16"),
        ("processes=0", "processes=0: must be at least 1"),
        ("num_generations=0", "num_generations=0: must be at least 2"),
        ("num_generations=null", "num_generations: expected a whole number, found None"),
        ("per_device_train_batch_size=0", "per_device_train_batch_size=0: must be at least 1"),
        ("max_completion_length=-5", "max_completion_length=-5: must be at least 1"),
        ("overlong_buffer=5", "overlong_buffer=5: must not exceed max_completion_length=4"),
        ("max_steps=abc", "max_steps: expected a whole number, found 'abc'"),
        ("tutoring_k=abc", "tutoring_k: expected a whole number, found 'abc'"),
        ("tutoring_weight=abc", "tutoring_weight: expected a number, found 'abc'"),
        ("learning_rate=abc", "learning_rate: expected a number, found 'abc'"),
        ("learning_rate=-1", "learning_rate=-1: must be in [0, 10]"),
        ("learning_rate=.nan", "learning_rate=nan: must be a finite number"),
        ("seed=abc", "seed: expected a whole number, found 'abc'"),
        ("seed=-1", "seed=-1: must be in [0, 4294967295]"),
        ("share_prefix=maybe", "share_prefix: expected true or false, found 'maybe'"),
        ("save_strategy=no", "save_strategy: expected one of its names or text, found False (YAML reads a bare"),
        ("temperature=0", "temperature=0: must be in [0.01, 100]"),
        ("temperature=-1", "temperature=-1: must be in [0.01, 100]"),
        ("top_p=3", "top_p=3: must be in (0, 1]"),
        ("beta=-1", "beta=-1: must be in [0, 1000]"),
        ("epsilon=-1", "epsilon=-1: must be above 0"),
        ("lora.rank=-1", "lora.rank=-1: must be at least 0"),
        ("lora.target_modules=5", "lora.target_modules: expected a list (text each) or text, found 5"),
        ("evaluate.temperature=hot", "evaluate.temperature: expected a number, found 'hot'"),
        ("tutoring_teacher=nope", "tutoring_teacher='nope': neither frozen, current or ema nor a model"),
        ("model=nope", "model='nope': neither a folder here nor a hub id"),
        ("deepspeed=nope.json", "deepspeed=nope.json: no such file"),
        ("output_dir={}/hints.jsonl", "hints.jsonl: is a file; name a folder"),
    ],
)
def test_mistakes_in_a_dry_run_are_one_line_and_exit_code_2(ptdpo, recipe, override, message):
    extra = ["per_device_train_batch_size=64"] if override == "processes=2" else []
    code, _, err = ptdpo("train", recipe, override.format(recipe.parent), *extra, "--dry-run")
    assert code == 2
    assert err.count("\n") == 1
    assert message in err


def test_another_number_of_processes_than_launched_is_refused(ptdpo, recipe):
    code, _, err = ptdpo("train", recipe, "processes=8")
    assert code == 2
    assert "8 processes but 1 were launched" in err


def test_data_commands(ptdpo, tmp_path):
    code, out, _ = ptdpo("data", "easy-vqa", tmp_path / "p.jsonl", "--split", "test", "--limit", 5, "--solutions")
    assert code == 0
    assert "5 problems" in out
    assert ptdpo("data", "check", tmp_path / "p.jsonl")[0] == 0
    shown = {"a": "How many? Hint: look", "b": "how  many? Hint: look", "c": ""}
    rows = [{"id": key, "problem": "how many?", "answer": "1", "prompt_with_hint": text} for key, text in shown.items()]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = ptdpo("data", "check", tmp_path / "p.jsonl")[1]
    assert "1 prompt_with_hint do not hold the question of their row: a" in said
    (tmp_path / "p.jsonl").write_text('{"id": "a", "images": ["gone.png"], "problem": "q", "answer": "1"}\n')
    code, _, err = ptdpo("data", "check", tmp_path / "p.jsonl")
    assert code == 2
    assert "1 bad row: a" in err


def test_data_check_says_which_answers_cannot_be_graded(ptdpo, tmp_path):
    rows = [("a", "How many?", "5"), ("b", "Which? (A) 3 (B) 4", "C")]
    lines = [{"id": key, "images": [], "problem": asked, "answer": answer} for key, asked, answer in rows]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ptdpo("data", "check", path)[0] == 0
    code, _, err = ptdpo("data", "check", path, "--grade")
    assert code == 2
    assert "1 of 2 answers cannot be graded soundly: b: the answer is C, and there are 2 options" in err
    path.write_text(json.dumps(lines[0]) + "\n")
    code, out, _ = ptdpo("data", "check", path, "--grade")
    assert code == 0
    assert "every answer can be graded soundly" in out


def test_a_tiny_model_is_made_and_fine_tuned(ptdpo, tmp_path):
    assert ptdpo("data", "tiny-vlm", tmp_path / "tiny")[0] == 0
    assert ptdpo("data", "easy-vqa", tmp_path / "p.jsonl", "--limit", 8, "--solutions", "--hints")[0] == 0
    for made in ("p.solutions.jsonl", "p.hints.jsonl"):
        assert (tmp_path / made).read_text().count("question_hash") == 8
    code, _, err = ptdpo(
        "sft", tmp_path / "tiny", tmp_path / "p.jsonl", tmp_path / "p.solutions.jsonl", "--out", tmp_path / "sft",
        "--batch-size", 4,
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "sft" / "model.safetensors").exists()


def test_an_unknown_command_is_a_users_mistake():
    done = subprocess.run([sys.executable, "-m", "ptdpo.cli", "trian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trian" in done.stderr


def test_an_interrupted_command_says_how_to_go_on(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    app = typer.Typer()
    app.command()(interrupted)
    monkeypatch.setattr(cli, "app", app)
    code, _, err = run(monkeypatch, capsys)
    assert (code, err) == (130, "ptdpo: interrupted; the same command goes on where it stopped\n")


def test_the_package_runs_as_a_module():
    """Help comes at once: what computes, draws or reads tables is loaded by the command that needs it."""
    command = [sys.executable, "-X", "importtime", "-m", "ptdpo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "evaluate" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ptdpo.commands.evaluate" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "trl", "matplotlib", "scipy", "openai", "sympy"}


@pytest.fixture
def written(recipe):
    """A folder with problems, hints, solutions, a recipe that a comparison can read, and a folder in the way."""
    folder = recipe.parent
    ids = [json.loads(line)["id"] for line in (folder / "problems.jsonl").read_text().splitlines()]
    write_solutions(folder / "solutions.jsonl", [Solution(key, "\\boxed{1}") for key in ids])
    (folder / "dir").mkdir()
    return folder


IN_THE_WAY = [
    (["data", "easy-vqa", "{}/dir"], "FILE {}/dir: is a folder"),
    (["data", "easy-vqa", "{}/hints.jsonl/x/b.jsonl"], "{}/hints.jsonl is a file, not a folder"),
    (["data", "tiny-vlm", "{}/hints.jsonl"], "FOLDER {}/hints.jsonl: is a file"),
    (["data", "demo-world", "0", "--out", "{}/hints.jsonl"], "--out {}/hints.jsonl: is a file"),
    (["data", "attach-hints", "{}/problems.jsonl", "{}/hints.jsonl", "--out", "{}/dir"], "--out {}/dir: is a folder"),
    (["hints", "check", "{}/hints.jsonl", "--problems", "{}/problems.jsonl", "--out", "{}/dir"], "is a folder"),
    (["hints", "review", "{}/hints.jsonl", "--problems", "{}/problems.jsonl", "--out", "{}/dir"], "is a folder"),
    (["evaluate", "x/y", "{}/problems.jsonl", "--out", "{}/hints.jsonl/x"], "{}/hints.jsonl is a file, not a folder"),
    (["evaluate", "compare", "a", "b", "--out", "{}/hints.jsonl"], "--out {}/hints.jsonl: is a file"),
    (["compare", "{}/recipe.yaml", "--out", "{}/hints.jsonl"], "--out {}/hints.jsonl: is a file"),
    (["demo", "--out", "{}/hints.jsonl"], "--out {}/hints.jsonl: is a file"),
    (["sft", "x/y", "{}/problems.jsonl", "{}/solutions.jsonl", "--out", "{}/hints.jsonl"], "hints.jsonl: is a file"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), IN_THE_WAY, ids=lambda part: " ".join(part[:2]) if part else "")
def test_what_lies_in_the_way_of_results_is_named_before_any_work(ptdpo, written, command, message):
    code, out, err = ptdpo(*[part.format(written) for part in command])
    assert (code, out) == (2, "")
    assert err.startswith("ptdpo: ")
    assert err.count("\n") == 1
    assert message.format(written) in err
    assert not list(written.glob("*.partial"))


ASKING = "--problems {0}/problems.jsonl --out {0}/o.jsonl --base-url http://localhost:1/v1 --model m"
OUT_OF_RANGE = [
    ("data easy-vqa {0}/p.jsonl --limit -3", "--limit=-3: must be at least 1"),
    ("data easy-vqa {0}/p.jsonl --limit 0", "--limit=0: must be at least 1"),
    ("data check {0}/problems.jsonl --max-prompt-tokens 0", "--max-prompt-tokens=0: must be at least 1"),
    ("hints build --max-tokens 0 " + ASKING, "--max-tokens=0: must be at least 1"),
    ("hints build --tries 0 " + ASKING, "--tries=0: must be at least 1"),
    ("hints build --attempts 0 " + ASKING, "--attempts=0: must be at least 1"),
    ("hints build --rpm 0 " + ASKING, "--rpm=0.0: must be above 0"),
    ("hints build --top-p 3 " + ASKING, "--top-p=3.0: must be in (0, 1]"),
    ("hints recoverability {0}/hints.jsonl --guesses 0 " + ASKING, "--guesses=0: must be at least 1"),
    ("hints recoverability {0}/hints.jsonl --alpha 1 " + ASKING, "--alpha=1.0: must be in (0, 1)"),
    ("hints usefulness {0}/hints.jsonl --draws 0 " + ASKING, "--draws=0: must be at least 1"),
    ("solutions build --samples 0 " + ASKING, "--samples=0: must be at least 1"),
    ("solutions build --reverse-samples -1 " + ASKING, "--reverse-samples=-1: must be at least 0"),
    ("solutions build --max-image-bytes 0 " + ASKING, "--max-image-bytes=0: must be at least 1"),
    ("hints build --price-in -1 " + ASKING, "--price-in=-1.0: must be at least 0"),
    ("hints usefulness {0}/hints.jsonl --batch-size 0 " + ASKING, "--batch-size=0: must be at least 1"),
    ("evaluate x/y {0}/problems.jsonl --out {0}/e --limit 0", "--limit=0: must be at least 1"),
    ("sft x/y {0}/problems.jsonl {0}/solutions.jsonl --out {0}/s --batch-size 0", "--batch-size=0: must be at least 1"),
    ("evaluate x/y {0}/problems.jsonl --out {0}/e --temperature -1", "--temperature=-1.0: must be at least 0"),
    ("evaluate x/y {0}/problems.jsonl --out {0}/e --top-p 0", "--top-p=0.0: must be in (0, 1]"),
    ("evaluate x/y {0}/problems.jsonl --out {0}/e --tries 0", "--tries=0: must be at least 1"),
    ("evaluate x/y {0}/problems.jsonl --out {0}/e --extra {{bad", "without --base-url nothing reads them"),
    ("evaluate {0}/dir {0}/problems.jsonl --out {0}/e --revision abc", "--revision abc: {0}/dir is a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), OUT_OF_RANGE)
def test_options_that_make_no_sense_are_named_as_they_are_written(ptdpo, written, command, message):
    before = sorted(written.iterdir())
    code, out, err = ptdpo(*command.format(written).split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message.format(written) in err
    assert sorted(written.iterdir()) == before


def test_bad_rows_are_advised_upon_in_the_options_of_the_command(ptdpo, written):
    row = {"id": "a", "images": ["gone.png"], "problem": "q", "answer": "1"}
    good = (written / "problems.jsonl").read_text()
    (written / "problems.jsonl").write_text(json.dumps(row) + "\n" + good)
    files = written / "problems.jsonl", written / "hints.jsonl"
    code, _, err = ptdpo("data", "attach-hints", *files, "--out", written / "o.jsonl")
    assert (code, err.endswith("; mend them, or set --bad-rows drop\n")) == (2, True)
    assert ptdpo("data", "attach-hints", *files, "--out", written / "o.jsonl", "--bad-rows", "drop")[0] == 0
    code, _, err = ptdpo("data", "check", files[0])
    assert (code, err.endswith("data.bad_rows=drop in a recipe\n")) == (2, True)


def test_a_hints_file_without_a_usable_line_gets_no_table(ptdpo, written):
    (written / "hints.jsonl").write_text("{bad\n")
    code, out, err = ptdpo("hints", "check", written / "hints.jsonl", "--problems", written / "problems.jsonl")
    assert (code, out) == (2, "0 hints: 0 fit, 0 rejected\n")
    assert "hints.jsonl:1: not valid JSON" in err


def test_a_fault_of_the_file_system_is_one_line(ptdpo, written, monkeypatch):
    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    code, _, err = ptdpo("data", "easy-vqa", written / "new" / "p.jsonl", "--limit", 1)
    assert (code, err) == (2, f"ptdpo: {written / 'new'}: Permission denied\n")


def test_fine_tuning_names_a_missing_image_before_it_loads_the_model(ptdpo, written):
    lines = (written / "problems.jsonl").read_text().splitlines()
    row = {**json.loads(lines[0]), "images": ["gone.png"]}
    (written / "problems.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]))
    given = written / "problems.jsonl", written / "solutions.jsonl"
    code, _, err = ptdpo("sft", "no/model", *given, "--out", written / "sft")
    assert code == 2
    assert f"1 bad row: {row['id']} ({written}/gone.png: no such image)" in err


@pytest.mark.parametrize("load", [loading.load_processor, loading.load_model])
def test_a_model_that_cannot_be_loaded_is_named_in_one_line(monkeypatch, load):
    def unreachable(*_, **__):
        raise OSError("We couldn't connect to the hub.\nCheck your internet connection.")

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(OSError, match=r"^nope: no model that can be loaded.*\(We couldn't connect to the hub\.\)$"):
        load("nope")


def test_a_dry_run_plans_the_cards_that_are_named(ptdpo, recipe):
    code, out, _ = ptdpo("train", recipe, "--dry-run", "--gpus", "1xH100")
    assert code == 0
    assert "fits: " in out
    assert "rollout (responses)" in out
    assert "2 steps: " in out
    # Rows are planned at their limits: prompts of 8,192 tokens.
    code, out, _ = ptdpo("train", recipe, "--dry-run", "--gpus", "1xRTX4090", "data.max_prompt_tokens=9000000")
    assert code == 1
    assert "does not fit" in out
    assert "rollout (responses)" not in ptdpo("train", recipe, "--dry-run")[1]
    code, _, err = ptdpo("train", recipe, "--gpus", "1xH100")
    assert code == 2
    assert "add --dry-run" in err
