"""Analyses of made-up records whose numbers are known."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from ptdpo.analysis import ANALYSES
from ptdpo.analysis.overlap import compared_tokens, kind_of
from ptdpo.cli import app
from ptdpo.commands.report import run_view
from ptdpo.runlog import Leading, RecordWriter, TokenLine
from tests.report.made_runs import make_run
from tests.runlog.lines import group, rollout


def analysed(name, *folders):
    return ANALYSES[name]([run_view(folder, folder.name) for folder in folders])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", steps=8)


def test_groups_are_the_means_of_both_ends(run):
    found = analysed("groups", run)
    first, last = (sum((1 - step / 9) * 0.6 for step in steps) / 4 for steps in (range(1, 5), range(5, 9)))
    assert found.rows[0][2] == pytest.approx(first)
    assert found.rows[0][5] == pytest.approx(last)
    assert f"all-fail {first:.3f} to {last:.3f}" in found.sentence


def token_line(step, place, entropy, number=0):
    five = Leading([[1, 2, 3, 4, 5]], [[0.5, 0.2, 0.1, 0.05, 0.05]])
    return TokenLine(step, step, number, place, [1], [-1.0], [entropy], None, five, None, {"1": "x"})


def test_entropy_tells_tutored_groups_from_others(tmp_path):
    writer = RecordWriter(tmp_path)
    for step, low, high in ((1, 0.2, 1.0), (2, 0.1, 3.0)):
        right = [rollout(0, right=True), rollout(1, right=True)]
        writer.write([group(step, 0), group(step, 1, right)])
        writer.write([token_line(step, 1, high), token_line(step, 0, low, number=1)])
    rows = {row[1]: row[2:] for row in analysed("entropy", tmp_path).rows}
    assert rows == {"tutored": [2, 1.0, 3.0], "untutored": [2, 0.2, 0.1]}, "a right sibling of a tutored one counts"


def test_overlap_and_tails_are_those_of_the_records():
    student = Leading([[1, 2, 3, 4, 5]], [[0.5, 0.2, 0.1, 0.05, 0.05]])
    teacher = Leading([[2, 1, 9, 8, 7]], [[0.9, 0.05, 0.0, 0.0, 0.0]])
    line = TokenLine(1, 1, 0, 0, [3], [-1.0], [1.0], [0.25], student, teacher, {"3": " 42"})
    (found,) = compared_tokens(line)
    assert found.overlaps == [0, 1, 2 / 3, 0.5, 0.4]
    assert found.tails == pytest.approx((0.1, 0.05))
    assert (found.kind, found.divergence) == ("number", 0.25)


@pytest.mark.parametrize(
    ("text", "kind"),
    [(" 12", "number"), ("▁Left", "region word"), (" left,", "region word"), ("Because", "connective"), ("", "other"),
     ("\n", "other"), ("star", "other")],
)  # fmt: skip
def test_kinds_of_tokens(text, kind):
    assert kind_of(text.replace("▁", " ")) == kind


@pytest.mark.parametrize("name", ANALYSES)
def test_the_command_writes_all_four_files(tmp_path, run, name):
    found = CliRunner().invoke(app, ["analyze", name, str(run), "--out", str(tmp_path)])
    assert found.exit_code == 0, found.output
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["sentence"] in " ".join(found.output.split())
    assert content["rows"]
    assert (tmp_path / f"{name}.md").read_text().startswith(content["sentence"])
    assert (tmp_path / f"{name}.svg").read_text().startswith("<svg")
    with Image.open(tmp_path / f"{name}.png") as image:
        assert image.width > 300


@pytest.mark.parametrize("name", ["entropy", "overlap"])
def test_a_run_without_records_is_refused_by_name(tmp_path, name):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=f"^{tmp_path.name}: .*record"):
        analysed(name, tmp_path)


def test_watch_shows_step_groups_and_a_rollout(run):
    found = CliRunner().invoke(app, ["watch", str(run), "--once"])
    assert found.exit_code == 0, found.output
    assert "run: step 8" in found.output
    assert "all fail" in found.output
    assert "tutored rollout" in found.output
    assert "Look: the left column" in found.output


def test_watch_shows_a_rollout_of_a_run_that_tutors_nothing(tmp_path):
    writer = RecordWriter(tmp_path)
    writer.write([group(1, 0), token_line(1, 0, 0.75)])
    found = CliRunner().invoke(app, ["watch", str(tmp_path), "--once"])
    assert found.exit_code == 0, found.output
    assert "step 1, rollout 1 of q1" in found.output
    assert "strongest entropy, 0.750 nats" in found.output
    (tmp_path / "records" / "tokens-00000.jsonl").unlink()
    assert "no rollout is recorded yet" in CliRunner().invoke(app, ["watch", str(tmp_path), "--once"]).output


def test_watch_shows_control_characters_and_markup_as_they_are(tmp_path):
    from tests.report.made_runs import make_hostile

    found = CliRunner().invoke(app, ["watch", str(make_hostile(tmp_path / "evil")), "--once"])
    assert found.exit_code == 0, found.output
    assert "\x1b[31m" not in found.output
    assert "\x00" not in found.output
    assert "<b>bold</b>" in found.output
