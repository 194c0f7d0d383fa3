"""The picture of a study: what it shows, in which order, and what is told apart."""

import re
from dataclasses import replace

from ptdpo.statistics import Estimate
from ptdpo.study.figure import forest_chart
from ptdpo.study.plan import read_study
from ptdpo.study.results import Comparison, read_study_results


def compared(arm, mean, corrected, other="grpo", worlds=2):
    accuracy = None if mean is None else Estimate(mean, mean - 0.1, mean + 0.1)
    return Comparison(arm, other, worlds, accuracy, corrected, corrected, {}, round=1, planned=3)


def test_arms_stand_in_the_order_of_their_effect_and_only_what_is_certain_is_filled(tmp_path, write_study):
    result = read_study_results(read_study(write_study(), tmp_path / "out"))
    assert forest_chart(result) is None, "nothing is finished"
    found = [
        compared("shuffled", -0.2, 0.04),
        compared("ptd-whole", 0.3, 0.06),
        compared("third", 0.1, 0.2, worlds=1),
        compared("fourth", None, 1.0),
        compared("ptd-whole", 0.5, 0.001, other="shuffled"),
    ]
    chart = forest_chart(replace(result, comparisons=found))
    assert chart is not None
    # Text is drawn as paths; what it said stands in comments.
    said = re.findall(r"<!-- (.*?) -->", chart)
    assert [name for name in said if name.split(" ")[0] in {one.arm for one in found}] == [
        "shuffled",
        "third (1 of 2 worlds)",
        "ptd-whole",
    ]
    assert "Test accuracy minus grpo" in said
    dots = re.findall(r"<use [^>]*fill: (#\w+); stroke: (#(?:1b6ca8|888888))", chart)
    assert dots == [("#1b6ca8", "#1b6ca8"), ("#ffffff", "#888888"), ("#ffffff", "#888888")]
