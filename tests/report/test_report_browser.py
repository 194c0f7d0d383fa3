"""The report in a real browser; skipped where there is none."""

import os
import re
import shutil

import pytest

from ptdpo.commands.report import run_view
from ptdpo.report.run_page import run_page
from tests.report.made_runs import make_hinted, make_hostile, make_run

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'ptdpo[browser]' to test the report")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = os.environ.get("PTDPO_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium: apt-get install chromium, or set PTDPO_BROWSER"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    pages = {
        "two": [make_run(folder / "grpo", steps=8), make_run(folder / "ptd-grpo", steps=12, seed=1)],
        "evil": [make_hostile(folder / "evil")],
        "hinted": [make_hinted(folder / "hinted")],
    }
    for name, runs in pages.items():
        html = run_page([run_view(run, run.name) for run in runs], f"report {name}")
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, files):
    """Open a page in a fresh profile; any error or request fails the test."""
    contexts, errors = [], []

    def open_at(name="two", width=1400, height=900, scheme="light", link=""):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda r: errors.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto((files / f"{name}.html").as_uri() + link)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert errors == []


def count(page):
    return int(page.locator("#count").inner_text().split()[0])


def heading(page):
    return page.locator("#group h3").first.inner_text()


def test_curves_table_and_groups_are_drawn(opened):
    page = opened()
    assert page.locator("#charts figure").count() >= 8
    assert page.locator("#charts path.line").count() >= 16
    assert page.locator("#compositions figure").count() == 2
    assert page.locator("#table tbody tr").count() == 2
    assert page.locator("#findings .finding").count() == 2
    assert page.locator("#table").evaluate("box => box.scrollWidth <= box.clientWidth"), "all columns are in sight"
    before = page.locator("#charts path.line").first.get_attribute("d")
    page.locator("#smoothing").fill("1")
    assert page.locator("#charts path.line").first.get_attribute("d") != before
    page.locator("#charts svg").first.hover()
    assert page.locator("#charts .readout").first.inner_text().startswith("step ")


def test_filters_narrow_and_clear(opened):
    page = opened()
    assert count(page) == 40
    page.locator("#f-run").select_option("1")
    assert count(page) == 24
    page.locator("#f-from").fill("3")
    page.locator("#f-to").fill("4")
    assert count(page) == 4
    page.locator("#f-tutored").select_option("no")
    page.locator("#f-outcome").select_option("fail")
    assert count(page) == 0
    assert "No group passes" in page.locator("#group").inner_text()
    page.get_by_role("button", name="Clear").click()
    # Not wait_for_function: the page forbids eval, which it polls with.
    playwright.expect(page.locator("#count")).to_have_text(re.compile("^40 "))
    page.locator("#f-text").fill("has Q3?")
    assert 0 < count(page) < 40
    assert "q3" in heading(page)


def test_a_click_on_a_token_shows_both_distributions(opened):
    page = opened()
    page.locator("#f-outcome").select_option("fail")
    page.locator(".rollout .token").nth(2).click()
    box = page.locator("#distribution")
    assert box.is_visible()
    assert "Token 3 of 14" in box.inner_text()
    assert "Student, %" in box.inner_text()
    assert "Teacher, %" in box.inner_text()
    assert page.locator("#distribution .prob").count() == 10
    page.keyboard.press("ArrowRight")
    assert "Token 4 of 14" in box.inner_text()
    page.keyboard.press("Escape")
    assert not box.is_visible()


def test_shades_differ_and_keys_choose_them(opened):
    page = opened()
    page.locator("#f-outcome").select_option("fail")
    page.locator("h1").click()

    def colours():
        return page.locator(".token").evaluate_all("all => all.map(one => one.style.backgroundColor)")

    divergence = colours()
    assert len(set(divergence)) > 5
    page.keyboard.press("e")
    entropy = colours()
    page.keyboard.press("a")
    assert len({tuple(divergence), tuple(entropy), tuple(colours())}) == 3
    assert page.locator("[data-shade=advantage]").get_attribute("aria-pressed") == "true"


def test_keys_move_and_links_lead_to_a_rollout(opened):
    page = opened()
    first = heading(page)
    page.keyboard.press("j")
    second = heading(page)
    assert second != first
    assert "#r=0/1/1" in page.url
    page.keyboard.press("k")
    assert heading(page) == first
    page.keyboard.press("/")
    page.keyboard.type("jj")
    assert page.locator("#f-text").input_value() == "jj", "keys are text while one types"
    linked = opened(link="#r=1/5/0/2")
    assert "step 5" in heading(linked)
    assert linked.locator(".rollout.linked").count() == 1


def test_tokens_are_reached_by_keys_alone(opened):
    page = opened()
    box = page.locator("#distribution")
    page.keyboard.press("ArrowRight")
    assert not box.is_visible(), "arrows scroll until a token is open"
    page.keyboard.press("t")
    marked = page.locator(".token[aria-current]")
    assert "Token 1 of 14" in box.inner_text()
    assert page.locator(".rollout").nth(0).locator(".token[aria-current]").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "Token 1 of 14" in box.inner_text()
    assert page.locator(".rollout").nth(1).locator(".token[aria-current]").count() == 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert marked.count() == 1, "there is none above the first"
    page.keyboard.press("j")
    assert not box.is_visible()
    page.keyboard.press("t")
    assert "Token 1 of 14" in box.inner_text()


def test_nothing_from_a_run_is_ever_markup(opened):
    page = opened("evil")
    assert page.title() == "report evil"
    assert "<b>bold</b>" in page.locator("#group").inner_text()
    assert page.locator("#group img, #list img, #made img").count() == 0
    assert "onerror" in page.locator("#group").inner_text()
    assert "996000 more characters" in page.locator("#group").inner_text()
    assert "missing" in page.locator("#group").inner_text()
    page.locator(".token").first.click()
    assert "did not read" in page.locator("#distribution").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert "not in the records" in page.locator("#group").inner_text()


def test_rollouts_that_were_drawn_with_a_hint_are_marked(opened):
    page = opened("hinted")
    assert page.locator(".rollout").nth(0).locator(".hinted").count() == 0
    assert page.locator(".rollout").nth(1).locator(".hinted").inner_text() == "drawn with hint 1"
    assert (
        "Only the rollouts marked so were drawn with (hint, ab12cd34): Look: left"
        in page.locator("#group").inner_text()
    )
    assert "advantage –" in page.locator(".rollout").nth(1).inner_text()
    page.keyboard.press("j")
    assert "No rollout of this group was drawn with (hint, ab12cd34)" in page.locator("#group").inner_text()
    page.locator("#f-text").fill("drawn with hint")
    assert count(page) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width"), [("two", 390), ("evil", 390), ("two", 1400)])
def test_it_fits(opened, name, width, scheme):
    page = opened(name, width=width, height=844, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if name == "two":
        page.locator(".token").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#distribution").bounding_box()["width"] <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(18, 20, 26)") == (scheme == "dark")
