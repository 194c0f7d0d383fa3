"""Each finding appears where its numbers are, and not on a healthy run."""

import dataclasses
import math

import pytest

from ptdpo.commands.report import run_view
from ptdpo.report.diagnosis import diagnose
from ptdpo.runlog import RunRecords
from tests.report.made_runs import make_run

SICK = {
    "no signal": {"groups/all_fail": lambda step: 0.9},
    "divergence flat": {"divergence": lambda step: 0.001},
    "nothing tutored": {"tutored/tokens": lambda step: 0},
    "entropy collapse": {"entropy": lambda step: 2.0 if step < 15 else 0.05},
    "length collapse": {"completions/mean_length": lambda step: 100 if step < 15 else 20},
    "truncated responses": {"completions/clipped_ratio": lambda step: 0.3},
    "loss NaN": {"loss": lambda step: math.nan if step == 7 else 0.1},
    "engine mismatch": {"sampling/sampling_logp_difference/mean": lambda step: 0.4},
}


def kinds(folder):
    return [finding.kind for finding in diagnose(run_view(folder, "run"))]


def test_a_healthy_run_has_no_finding(tmp_path):
    assert kinds(make_run(tmp_path / "run", steps=30)) == []


@pytest.mark.parametrize("kind", SICK)
def test_each_sickness_is_named(tmp_path, kind):
    found = diagnose(run_view(make_run(tmp_path / "run", steps=30, **SICK[kind]), "run"))
    assert [finding.kind for finding in found] == [kind]
    assert found[0].weight == "warning"
    assert found[0].evidence
    assert found[0].remedy


def changed(view, change):
    groups = {
        key: dataclasses.replace(group, rollouts=[change(group, rollout) for rollout in group.rollouts])
        for key, group in view.records.groups.items()
    }
    records: RunRecords = dataclasses.replace(view.records, groups=groups)
    return dataclasses.replace(view, records=records)


def test_hints_that_never_helped_are_named_by_id(tmp_path):
    view = run_view(make_run(tmp_path / "run", steps=30), "run")

    def failed(group, rollout):
        if group.id != "q3":
            return rollout
        return dataclasses.replace(rollout, accuracy=0.0, response="\\boxed{13}", reason="tutored")

    assert diagnose(changed(view, failed)) == [], "one question of seven is not worth a word"

    def all_failed(group, rollout):
        return dataclasses.replace(rollout, accuracy=0.0, response="\\boxed{13}", reason="tutored")

    (found,) = diagnose(changed(view, all_failed))
    assert found.kind == "hints do not help"
    assert "q3 (ab12cd34, " in found.evidence


def test_a_reward_that_the_careful_reader_disputes_is_named(tmp_path):
    view = run_view(make_run(tmp_path / "run", steps=30), "run")
    (found,) = diagnose(changed(view, lambda group, r: dataclasses.replace(r, response="\\boxed{99}", accuracy=1.0)))
    assert found.kind == "reward and reader disagree"


def test_the_careful_reader_reads_the_options_of_a_choice(tmp_path):
    question = "Which?\n(A) 11\n(B) 12\n(C) 13"
    view = run_view(make_run(tmp_path / "run", steps=30, question=question), "run")

    def said(letter):
        response = f"\\boxed{{{letter}}}"
        return diagnose(changed(view, lambda _, r: dataclasses.replace(r, response=response, accuracy=1.0)))

    # The answer is 12, which is option B.
    assert "reward and reader disagree" not in [one.kind for one in said("B")]
    assert "reward and reader disagree" in [one.kind for one in said("C")]


def test_a_run_that_has_just_begun_says_so(tmp_path):
    folder = make_run(tmp_path / "run", steps=2)
    with (folder / "records" / "groups-00000.jsonl").open("a") as file:
        file.write('{"step": 3, "gro')
    assert sorted(kinds(folder)) == ["cut lines", "few steps"]
