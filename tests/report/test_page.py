import re
from xml.etree import ElementTree

import pytest

from ptdpo.records import Hint, Problem, TutoredExample
from ptdpo.report.curves import Curve, group_chart, line_chart, smoothed
from ptdpo.report.page import Page, ShownExample, render

ROWS = [
    {"step": n, "accuracy": n / 10, "groups/all_fail": 0.5, "groups/informative": 0.3, "groups/all_pass": 0.2}
    for n in range(1, 8)
]


def page(scenes, **changes):
    problem = Problem("1", scenes[0].problem.images, "is 1 < 2 & <b>bold</b>?", "yes")
    example = TutoredExample(3, "1", ("<think>", "red", "&"), (0.0, 0.2, 0.1))
    return Page(
        **{
            "title": "a run",
            "intro": "intro",
            "columns": ("", "accuracy"),
            "rows": [("grpo", "0.5")],
            "runs": {"grpo": ROWS, "ptd-grpo": ROWS},
            "examples": [ShownExample(problem, Hint("left", "count"), example)],
            **changes,
        }
    )


def test_a_page_is_self_contained_and_escapes_what_models_wrote(scenes):
    html = render(page(scenes))
    assert "<b>bold</b>" not in html
    assert "&lt;think&gt;" in html
    assert "data:image/png;base64," in html
    for outside in ('src="http', 'href="http', "<script", "@import"):
        assert outside not in html
    assert html.count("<svg") == 1 + 2, "accuracy is the only logged curve; two group charts"
    assert "look: left" in html
    assert "0.2000 nats" in html


def test_the_strongest_token_is_the_darkest(scenes):
    html = render(page(scenes))
    assert "rgba(209, 73, 91, 1.0)" in html
    assert "rgba(209, 73, 91, 0.5)" in html


def test_a_page_without_examples_and_without_metrics(scenes):
    html = render(page(scenes, examples=[], runs={"grpo": []}))
    assert "<svg" not in html
    assert "Where tutoring" not in html


def test_an_example_with_no_divergence_at_all(scenes):
    flat = ShownExample(Problem("1", (), "q", "a"), None, TutoredExample(1, "1", ("x",), (0.0,)))
    assert "rgba(209, 73, 91, 0.0)" in render(page(scenes, examples=[flat]))


def test_charts_are_valid_svg_and_smoothing_is_a_trailing_mean():
    for chart in (line_chart({"a": ROWS}, Curve("accuracy", "t")), group_chart("a", ROWS)):
        assert ElementTree.fromstring(chart).tag.endswith("svg")
    assert smoothed([1.0, 3.0, 5.0, 7.0], 2) == pytest.approx([1.0, 2.0, 4.0, 6.0])


def test_more_runs_than_colours_are_all_drawn():
    chart = line_chart({f"run-{n}": ROWS for n in range(14)}, Curve("accuracy", "accuracy"))
    assert all(f"run-{n}" in chart for n in range(14))


def test_images_of_an_example_stand_where_the_question_puts_them(scenes):
    images = scenes[0].problem.images * 2
    problem = Problem("1", images, "first <image> second <image> which?", "1")
    example = TutoredExample(1, "1", ("a",), (0.1,))
    html = render(Page("t", "i", (), (), {}, [ShownExample(problem, None, example)]))
    asked = html[html.index("<p><b>") : html.index("</b>", html.index("<p><b>"))]
    assert re.sub(r"<img [^>]*>", "IMAGE", asked) == "<p><b>first IMAGE  second IMAGE  which?"
