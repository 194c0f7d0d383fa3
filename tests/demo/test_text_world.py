"""The demo's world in words: questions that hold their mosaic, a tiny Qwen3, fine-tuning without images."""

import pytest

from ptdpo.data.dataset import sft_dataset
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.demo.setting import DemoSettings, WarmStart, habit_rows, skill_rows
from ptdpo.models import load_model, load_processor, make_tiny_lm
from ptdpo.runlog import METRICS_FILE
from ptdpo.train.metrics import read_metrics
from ptdpo.train.trl.sft import cpu_sft_settings, fine_tune_on_cpu, run_sft
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    texts = ["what is the alpha score of this picture? 1 red, 2 blue <think> \\boxed{7}"] * 3
    return str(make_tiny_lm(tmp_path_factory.mktemp("lm"), texts, SMALL))


def test_the_question_holds_the_cells_and_no_image_is_drawn(tmp_path):
    rules = hidden_rules(0)
    scenes = make_scenes(tmp_path / "images", "train", [(name, rules[name]) for name in NAMES], 0, in_words=True)
    for scene in scenes:
        listed = scene.problem.problem.split(". ")[0].split(", ")
        assert listed == [f"{number} {colour}" for number, colour in enumerate(scene.cells, 1)]
        assert scene.problem.images == ()
        assert scene.problem.answer == str(scene.rule.score(scene.cells))

    assert not (tmp_path / "images").exists()


def test_warm_start_rows_are_text(tmp_path):
    warm = WarmStart(naming_rows=3, adding_rows=3, score_rows=3, habit_rows=3)
    settings = DemoSettings(arms={}, warm_start=warm, in_words=True)
    rows = skill_rows(tmp_path, 0, settings) + habit_rows(tmp_path, 0, settings)
    assert len(rows) == 12
    assert all(images == () and text.startswith("1 ") for images, text, _ in rows)


def test_a_model_of_text_is_fine_tuned(start, tmp_path):
    rows = [((), "what is the alpha score?", "<think>red</think>\n\\boxed{7}")] * 4
    fine_tune_on_cpu(start, rows, tmp_path / "tuned", batch_size=2, learning_rate=1e-3)
    before, after = (dict(load_model(str(path)).named_parameters()) for path in (start, tmp_path / "tuned"))
    assert max((before[name] - after[name]).abs().max().item() for name in before) > 1e-6


def test_images_are_refused_in_fine_tuning_a_model_of_text(start, tmp_path, scenes):
    rows = sft_dataset([(scenes[0].problem.images, "what?", "7"), ((), "what?", "7")])
    args = cpu_sft_settings(tmp_path, steps=1, batch_size=2, learning_rate=1e-3)
    with pytest.raises(ValueError, match="1 of 2 rows have images, but the model reads text only"):
        run_sft(load_model(start), load_processor(start), rows, args)


@pytest.mark.parametrize(("rows", "peak_at", "lines"), [(32, 8, 16), (6, 1, 3)])
def test_a_short_fine_tuning_reaches_its_rate_and_says_its_steps(start, tmp_path, rows, peak_at, lines, capsys):
    told = [((), "what is the alpha score?", "<think>red</think>\n\\boxed{7}")] * rows
    fine_tune_on_cpu(start, told, tmp_path / "tuned", batch_size=2, learning_rate=1e-3)
    logged = [row for row in read_metrics(tmp_path / "tuned" / METRICS_FILE) if "learning_rate" in row]
    assert len(logged) == lines
    rates = [row["learning_rate"] for row in logged]
    assert max(rates) == rates[peak_at] == 1e-3
    assert capsys.readouterr().out.count("step ") == lines
