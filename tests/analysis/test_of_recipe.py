"""Analyses of a recipe that train or count, on a tiny model."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from ptdpo.analysis.divergence import compare_trainings, divergence
from ptdpo.analysis.gap import Norms, analysis_of, gap
from ptdpo.analysis.memory import HeadSize, counted, measure, memory, peak_bytes
from ptdpo.analysis.of_recipe import OfRecipe
from ptdpo.cli import app
from ptdpo.config import Recipe, read_recipe
from ptdpo.data.files import write_hints, write_problems
from ptdpo.hints.usefulness import HintedDraws, summarise
from ptdpo.train.metrics import read_metrics


@pytest.fixture
def recipe(tmp_path, tiny_path, scenes):
    write_problems(tmp_path / "problems.jsonl", [scene.problem for scene in scenes])
    write_hints(tmp_path / "hints.jsonl", {scene.problem.id: scene.hint for scene in scenes}, model="rule")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
preset: ptd-grpo
model: {tiny_path}
data: {{path: {tmp_path}/problems.jsonl, hints: {tmp_path}/hints.jsonl, instruction: ""}}
train: {{learning_rate: 1e-3, tutoring_k: 5, per_device_train_batch_size: 4, num_generations: 2,
  max_completion_length: 4, save_strategy: "no", use_cpu: true, bf16: false, activation_checkpointing: false,
  disable_tqdm: true}}
"""
    )
    return path


def asked(path, folder, *overrides, **given):
    return OfRecipe(read_recipe(path, overrides), folder, say=lambda _: None, **given)


def test_divergences_start_alike_and_are_trained_once(tmp_path, recipe):
    out = tmp_path / "out"
    command = ["analyze", "divergence", str(recipe), "--steps", "1", "--out", str(out)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    rows = {row["divergence"]: row for row in json.loads((out / "divergence.json").read_text())["rows"]}
    assert set(rows) == {"jsd", "forward_kl", "reverse_kl"}
    assert {row["steps"] for row in rows.values()} == {1}
    first = {kind: read_metrics(out / kind / "metrics.jsonl")[0] for kind in rows}
    assert len({one["completions/mean_length"] for one in first.values()}) == 1, "all start alike"
    assert len({one["divergence"] for one in first.values()}) == 3, "and are taught otherwise"
    times = {kind: (out / kind / "metrics.jsonl").stat().st_mtime_ns for kind in rows}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert times == {kind: (out / kind / "metrics.jsonl").stat().st_mtime_ns for kind in rows}
    with pytest.raises(ValueError, match=r"learning_rate.*choose another --out"):
        divergence(asked(recipe, out, "learning_rate=1e-4", steps=1))


def test_divergences_that_cannot_be_trained_are_refused_before_any_is(tmp_path, recipe):
    with pytest.raises(ValueError, match="tutoring_tail"):
        divergence(asked(recipe, tmp_path / "out", "tutoring_tail=student"))
    with pytest.raises(ValueError, match=r"processes=2.*set processes=1"):
        divergence(asked(recipe, tmp_path / "out", "processes=2"))
    with pytest.raises(ValueError, match="preset=grpo tutors nothing"):
        divergence(asked(recipe, tmp_path / "out", "preset=grpo"))
    assert not (tmp_path / "out").exists()


def test_what_is_compared_of_the_trainings():
    def run(reward, norm):
        return [{"step": n, "reward": r, "grad_norm": g} for n, (r, g) in enumerate(zip(reward, norm, strict=True), 1)]

    runs = {"forward_kl": run([0, 0, 0, 0.5], [1, 1, 1, 1]), "jsd": run([0, 0.5, 1, 1], [4, 2, 1, 1])}
    found = compare_trainings(runs, "jsd")
    assert [list(row[:7]) for row in found.rows] == [
        ["jsd", 4, 0.25, 1.0, 3.0, 2.0, 4],
        ["forward_kl", 4, 0.0, 0.25, 1.0, 1.0, 1],
    ]
    assert "jsd: 0.250 to 1.000, 3.000 and 2.000; forward_kl: 0.000 to 0.250, 1.000 and 1.000" in found.sentence


def test_memory_is_kept_as_the_formula_says():
    size = HeadSize(vocabulary=200, hidden=8, k=5, dtype=torch.float32)
    rows = counted(size, 300, lambda _: None).rows
    assert [row[1] for row in rows] == [256, 300] * 3
    kept = {row[0]: row[2] * 2**20 for row in rows if row[1] == 300}
    assert kept == {
        "full vocabulary": 300 * 200 * 4,
        "full vocabulary in parts": 300 * (16 + 8 * 4),
        "Top-K": 300 * (5 * 8 + 8 + 8 * 4),
    }
    assert all(row[2] == row[3] for row in rows), "what is measured is what is counted"


def test_top_k_holds_less_at_once():
    size = HeadSize(vocabulary=6000, hidden=8, k=5, dtype=torch.float32)
    _, full = measure("full vocabulary", 512, size)
    _, top = measure("Top-K", 512, size)
    logits = 512 * 6000 * 4
    assert full > 3 * logits, "student, teacher and gradient at least"
    assert logits < top < full / 2


def test_sizes_too_large_to_measure_are_counted_only(monkeypatch):
    # The package's name of the module is that of the function.
    monkeypatch.setattr(sys.modules["ptdpo.analysis.memory"], "MEASURED", 100 * 260)
    rows = counted(HeadSize(100, 8, 5, torch.float32), 300, lambda _: None).rows
    assert [row[3] is None for row in rows] == [False, True] * 3
    assert [row[4] is None for row in rows] == [False, True] * 3


def test_a_peak_is_what_is_held_at_once():
    def work():
        made = torch.ones(1000)
        del made
        kept = torch.ones(500)
        (kept + 1).sum()

    assert peak_bytes(work, "cpu") == pytest.approx(4000, abs=64)


def test_memory_reads_sizes_from_the_recipe(tmp_path, recipe, model):
    found = memory(asked(recipe, tmp_path / "out"))
    assert {row[1] for row in found.rows} == {16}, "4 rollouts of 4 tokens"
    text = model.config.get_text_config()
    assert f"V={text.vocab_size}, H={text.hidden_size}, K=5" in found.sentence


def test_a_recipe_of_fine_tuning_is_no_recipe_to_tutor(tmp_path):
    with pytest.raises(ValueError, match="preset=sft tutors nothing"):
        memory(OfRecipe(Recipe("sft", "any"), tmp_path))


def test_gap_measures_the_start_model_and_its_gradients(tmp_path, recipe):
    out = tmp_path / "out"
    command = ["analyze", "gap", str(recipe), "--steps", "2", "--questions", "2", "--samples", "2", "--max-new-tokens",
               "4", "--out", str(out)]  # fmt: skip
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    policy, tutoring = (read_metrics(out / "gradients" / name / "metrics.jsonl") for name in ("policy", "tutoring"))
    same = ("accuracy", "reward", "completions/mean_length", "divergence", "entropy")
    for one, other in zip(policy, tutoring, strict=True):
        assert [one[key] for key in same] == [other[key] for key in same], "the same rollouts"
        assert one["kl"] == 0, "nothing was learnt"
    values = {row["measure"]: row["value"] for row in json.loads((out / "gap.json").read_text())["rows"]}
    assert values["lambda of the recipe"] == 0.5
    norm = sum(row["grad_norm"] for row in tutoring) / 2
    assert values["norm of the tutoring gradient, lambda 1"] == pytest.approx(norm)
    assert values["lambda of equal norms"] == pytest.approx(sum(row["grad_norm"] for row in policy) / 2 / norm)
    assert 0 < values["divergence on failed rollouts"] < 0.694
    assert not list(out.rglob("*.safetensors")), "no model is kept"


def test_a_gap_that_was_cut_off_ends_as_if_it_was_not(tmp_path, recipe):
    """A kill leaves half a line of draws, and a measurement of gradients that is not finished."""
    out = tmp_path / "out"
    command = ["analyze", "gap", str(recipe), "--steps", "2", "--questions", "2", "--samples", "2", "--max-new-tokens",
               "4", "--out", str(out)]  # fmt: skip
    assert CliRunner().invoke(app, command).exit_code == 0
    whole, drawn = (out / "gap.json").read_bytes(), (out / "samples.jsonl").read_bytes()
    (out / "gap.json").unlink()
    (out / "samples.jsonl").write_bytes(drawn[:-40])
    (out / "gradients/tutoring/finished.json").unlink()
    (out / "gradients/tutoring/metrics.jsonl").write_text('{"step": 1, "grad_norm": 1e9}\n{"step": 2, "gra')
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert (out / "gap.json").read_bytes() == whole
    assert (out / "samples.jsonl").read_bytes() == drawn


def test_a_gap_of_data_without_its_image_is_refused_by_name(tmp_path, recipe, scenes):
    problem = scenes[1].problem
    write_problems(tmp_path / "problems.jsonl", [scenes[0].problem, replace(problem, images=(f"{tmp_path}/gone.png",))])
    found = CliRunner().invoke(app, ["analyze", "gap", str(recipe), "--steps", "1", "--out", str(tmp_path / "out")])
    assert isinstance(found.exception, ValueError)
    assert problem.id in str(found.exception)
    assert "gone.png" in str(found.exception)


def test_the_tutoring_gradient_grows_with_lambda():
    assert Norms([1.0, 3.0], [0.5, 0.0]).equal_weight == 8.0
    assert Norms([1.0], [0.0]).equal_weight is None


def test_what_to_expect_of_a_gap():
    def said(*right):
        return analysis_of(
            summarise([HintedDraws(str(n), 4, a, b, 0) for n, (a, b) in enumerate(right)]), [0.1], Norms([1], [2]), 1
        )

    better = said((0, 3), (1, 4), (0, 4))
    assert "expect tutoring to help" in better.sentence
    assert "pass@1 is 0.083 without and 0.917 with the context, a gain of +0.833" in better.sentence
    assert "equally long at lambda 0.500, the recipe has 1" in better.sentence
    assert "expect tutoring to harm" in said((3, 0), (4, 1), (4, 0)).sentence
    assert "expect little" in said((1, 2), (2, 1), (3, 3)).sentence


@pytest.mark.parametrize("setting", ["context=question", "context=sibling", "teacher=other"])
def test_a_gap_is_between_the_start_model_and_itself(tmp_path, recipe, setting):
    with pytest.raises(ValueError, match="start model and itself"):
        gap(asked(recipe, tmp_path / "out", f"tutoring_{setting}"))
