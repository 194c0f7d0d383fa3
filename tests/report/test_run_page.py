"""The report as a file: what it holds, how large it is, what may run in it."""

import base64
import hashlib
import json
import re

import pytest
from typer.testing import CliRunner

from ptdpo.cli import app
from ptdpo.commands.report import names_of, run_view
from ptdpo.report.run_page import run_page
from ptdpo.report.run_view import curves_of, settings_of_run, spread, table_of
from ptdpo.report.viewer_data import viewer_data
from tests.report.made_runs import HOSTILE, make_hinted, make_hostile, make_run


def data_of(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


def page_of(*folders):
    return run_page([run_view(folder, folder.name) for folder in folders], "a title")


def test_a_hundred_steps_stay_below_five_megabytes(tmp_path):
    page = page_of(make_run(tmp_path / "run", steps=100, groups=4, rollouts=6))
    assert len(page.encode()) < 5e6
    content = data_of(page)
    steps = [group["step"] for group in content["viewer"]["groups"]]
    assert content["viewer"]["left_out"] > 0
    assert len(steps) + content["viewer"]["left_out"] == 400
    assert {min(steps) <= 10, max(steps) == 100} == {True}, "the sample is spread over the steps"


def test_the_page_is_self_contained_and_only_its_own_script_runs(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="data"', ""]
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "@import" not in page


def test_hostile_data_stays_in_its_block(tmp_path):
    page = page_of(make_hostile(tmp_path / "evil"))
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    group = data_of(page)["viewer"]["groups"][0]
    assert group["rollouts"][0]["text"] == HOSTILE
    assert len(group["rollouts"][1]["text"]) == 4000
    assert group["rollouts"][1]["cut"] == 996_000
    assert data_of(page)["viewer"]["images"] == [None, None]
    assert len(page) < 200_000


def test_runs_of_different_lengths_stand_side_by_side(tmp_path):
    page = data_of(page_of(make_run(tmp_path / "short", steps=2), make_run(tmp_path / "long", steps=40)))
    assert [run["steps"] for run in page["runs"]] == [2, 40]
    assert {group["run"] for group in page["viewer"]["groups"]} == {0, 1}


def test_a_run_of_an_older_version_has_no_records(tmp_path):
    folder = make_run(tmp_path / "old")
    for path in (folder / "records").glob("*.jsonl"):
        path.unlink()
    page = data_of(page_of(folder))
    assert page["viewer"]["groups"] == []
    assert "no records" in [finding["kind"] for finding in page["runs"][0]["findings"]]


def test_a_step_that_tutored_nothing_has_no_divergence(tmp_path):
    """It is logged as 0 there, as a mean over nothing."""
    zero = {"tutored/tokens": lambda step: 40 * (step % 2), "divergence": lambda step: 0.2 * (step % 2)}
    run = run_view(make_run(tmp_path / "run", steps=4, **zero), "run")
    assert run.values("divergence") == [0.2, 0.2]
    assert curves_of(run)["divergence"] == [0.2, None, 0.2, None]
    assert run.values("accuracy") == [0.2, 0.4, 0.6, 0.8]


def test_settings_are_those_of_the_recipe_or_of_the_records(tmp_path):
    folder = make_run(tmp_path / "run", steps=1)
    (folder / "records" / "settings.json").write_text('{"train": {"beta": 0.5}}')
    assert settings_of_run(folder)["preset"] == "ptd-grpo"
    (folder / "started.json").unlink()
    assert settings_of_run(folder) == {"train.beta": "0.5"}
    (folder / "records" / "settings.json").write_text("[1]")
    assert settings_of_run(folder) == {}


def test_numbers_that_are_none_leave_the_page_whole(tmp_path):
    """JavaScript's JSON has no NaN: one would leave the page blank."""
    page = page_of(make_hinted(tmp_path / "run"))
    assert re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1], parse_constant=pytest.fail)
    assert data["runs"][0]["findings"][0]["kind"] == "loss NaN"


def test_long_runs_are_drawn_from_some_of_their_steps(tmp_path):
    view = run_view(make_run(tmp_path / "run", steps=1500, groups=0), "run")
    curves = curves_of(view)
    assert len(curves["step"]) <= 601
    assert curves["step"][-1] == 1500
    assert {len(values) for values in curves.values()} == {len(curves["step"])}


def test_the_table_has_means_with_intervals(tmp_path):
    cells = table_of(run_view(make_run(tmp_path / "run", steps=3), "run"))
    assert cells[:2] == ["run", "3"]
    assert re.fullmatch(r"0\.500 \[0\.000, 1\.000\]", cells[2]), "a share's interval ends at 0 and 1"


@pytest.mark.parametrize("count", [0, 1, 2, 5, 64, 100])
def test_spread_is_an_order_of_all_that_begins_everywhere(count):
    order = list(spread(count))
    assert sorted(order) == list(range(count))
    if count == 100:
        assert order[0] == 99
        assert max(b - a for a, b in zip([0, *sorted(order[:8])], [*sorted(order[:8]), 99], strict=True)) < 25


def test_images_beyond_their_budget_are_left_out(tmp_path):
    view = run_view(make_run(tmp_path / "run"), "run")
    assert all(viewer_data([view]).images)
    assert set(viewer_data([view], image_budget=10).images) == {None}


def test_images_stand_where_the_question_puts_them(tmp_path):
    folder = make_run(tmp_path / "run", steps=1, groups=1, question="First: <image> Second: <image> which?")
    (question,) = viewer_data([run_view(folder, "run")]).questions
    assert question["parts"] == ["First: ", 0, " Second: ", 0, " which?"]


@pytest.mark.parametrize("text", ["which?", "<image> and <image> of three"])
def test_images_without_places_of_their_own_come_first(tmp_path, text):
    folder = make_run(tmp_path / "run", steps=1, groups=1, question=text, pictures=3)
    (question,) = viewer_data([run_view(folder, "run")]).questions
    assert question["parts"] == [0, 0, 0, text]


def test_a_long_question_is_cut_and_keeps_its_images(tmp_path):
    folder = make_run(tmp_path / "run", steps=1, groups=1, question="a" * 5000 + "<image>" + "b" * 10 + "<image>")
    (question,) = viewer_data([run_view(folder, "run")]).questions
    assert question["parts"] == ["a" * 4000, 0, "", 0]


def test_the_command(tmp_path):
    make_run(tmp_path / "run")
    found = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--out", str(tmp_path / "r.html")])
    assert found.exit_code == 0, found.output
    assert "1 runs, 12 recorded groups" in found.output
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name}: .* name the output_dir of a run"):
        run_view(tmp_path / name, name)


def test_names_tell_runs_apart(tmp_path):
    assert names_of([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
    with pytest.raises(ValueError, match="twice"):
        names_of([tmp_path, tmp_path])
