"""The review page in a real browser; skipped where there is none (see docs/hint_quality.md)."""

import json
import os
import shutil

import pytest
from PIL import Image

from ptdpo.hints import HintVerdict
from ptdpo.hints.recoverability import Recovery
from ptdpo.hints.review import ReviewRow, review_page
from ptdpo.hints.usefulness import HintedDraws
from ptdpo.records import Hint, Problem

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'ptdpo[browser]' to test the review page")
expect = playwright.expect
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = os.environ.get("PTDPO_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium: apt-get install chromium, or set PTDPO_BROWSER"),
]
HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\"> <b>bold</b>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    Image.new("RGB", (64, 48), "teal").save(folder / "a.png")
    rows = []
    for n in range(1000):
        problem = Problem(f"p{n}", (str(folder / "a.png"),), f"question {n}?", f"answer {n}", "photos")
        verdict = HintVerdict(False, ["answer: found here"]) if n % 4 == 0 else HintVerdict(True, [])
        measured = [
            Recovery(f"p{n}", n % 9, 8, 0.125, 0.5 / (1 + n % 9), False), HintedDraws(f"p{n}", 8, 2, (n + 4) % 8, 0)
        ] if n < 40 else []  # fmt: skip
        rows.append(ReviewRow(problem, Hint(f"look {n}", f"reason {n}"), verdict, *measured))
    placed = Problem("placed", (str(folder / "a.png"),) * 2, "First: <image> Second: <image> which?", "1")
    rows[18] = ReviewRow(placed, Hint("l", "r"), HintVerdict(True, []))
    rows[1] = ReviewRow(Problem("evil", (), HOSTILE, HOSTILE), Hint(HOSTILE, HOSTILE), HintVerdict(True, []))
    (folder / "review.html").write_text(review_page(rows, "hints.jsonl").html, encoding="utf-8")
    return folder / "review.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, page_file):
    """Open the page in a fresh profile at a size; any error on the page fails the test."""
    contexts, errors = [], []

    def open_at(width=1400, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(page_file.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert errors == []


def titles(page):
    return page.locator(".question").all_text_contents()


def downloaded(page):
    with page.expect_download() as waiting:
        page.click("#download")
    return json.loads(waiting.value.path().read_text()), waiting.value.suggested_filename


def test_text_of_a_model_stays_text(opened):
    page = opened()
    assert page.title() == "Hint review: hints.jsonl"
    card = page.locator(".card").nth(1)
    assert card.locator(".question").text_content() == HOSTILE
    assert card.locator("img, b:not(.quiet)").count() == 0


def test_only_one_page_of_cards_exists_and_pages_turn(opened):
    page = opened()
    assert page.locator(".card").count() == 20
    page.click("#next")
    assert titles(page)[0] == "question 20?"
    assert page.text_content("#page") == "Page 2 of 50"
    page.click("#previous")
    assert titles(page)[0] == "question 0?"


def test_keys_move_and_mark_and_the_list_holds_what_was_marked(opened):
    page = opened()
    for key in "jajjrju":
        page.keyboard.press(key)
    assert page.text_content("#n-accepted") == "1"
    assert page.text_content("#n-rejected") == "1"
    lists, name = downloaded(page)
    assert lists == {"accepted": ["p0"], "rejected": ["p3"]}
    assert name == "hints.review.json"


def test_going_on_crosses_pages(opened):
    page = opened()
    page.keyboard.press("j")
    for _ in range(20):
        page.keyboard.press("a")
    assert page.text_content("#page") == "Page 2 of 50"
    assert page.locator(".card.current .question").text_content() == "question 20?"
    assert page.text_content("#n-accepted") == "20"


def test_marks_survive_a_reload_and_a_second_press_takes_them_back(opened):
    page = opened()
    page.locator(".accept").nth(0).click()
    page.locator(".reject").nth(2).click()
    page.reload()
    expect(page.locator("#n-accepted")).to_have_text("1")
    expect(page.locator(".accept").nth(0)).to_have_attribute("aria-pressed", "true")
    page.locator(".accept").nth(0).click()
    assert downloaded(page)[0] == {"accepted": [], "rejected": ["p2"]}


def test_a_rejection_has_a_reason_that_survives_a_reload(opened):
    page = opened()
    card = page.locator(".card").nth(2)
    assert not card.locator(".because").is_visible(), "asked for only where there is something to explain"
    card.locator(".reject").click()
    card.locator(".because input").fill("  points at the wrong cell ")
    page.reload()
    expect(page.locator(".card").nth(2).locator(".because input")).to_have_value("points at the wrong cell")
    lists = downloaded(page)[0]
    assert lists == {"accepted": [], "rejected": ["p2"], "reasons": {"p2": "points at the wrong cell"}}
    page.locator(".card").nth(2).locator(".accept").click()
    assert downloaded(page)[0] == {"accepted": ["p2"], "rejected": []}, "an accepted hint needs no reason"


def test_a_key_rejects_and_takes_the_reason(opened):
    page = opened()
    page.keyboard.press("j")
    page.keyboard.press("w")
    page.keyboard.type("a jar")
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    assert downloaded(page)[0] == {"accepted": [], "rejected": ["p0", "evil"], "reasons": {"p0": "a jar"}}


def test_two_tabs_of_one_page_keep_each_others_marks(opened):
    page = opened()
    other = page.context.new_page()
    other.goto(page.url)
    page.locator(".accept").nth(0).click()
    expect(other.locator("#n-accepted")).to_have_text("1")
    other.locator(".reject").nth(2).click()
    other.locator(".card").nth(2).locator(".because input").fill("a jar")
    expect(page.locator("#n-rejected")).to_have_text("1")
    expect(page.locator(".card").nth(2).locator(".because input")).to_have_value("a jar")
    assert downloaded(page)[0] == {"accepted": ["p0"], "rejected": ["p2"], "reasons": {"p2": "a jar"}}


def test_an_edited_hint_is_accepted_kept_and_listed(opened):
    page = opened()
    card = page.locator(".card").nth(2)
    card.get_by_role("button", name="Edit").click()
    card.locator("textarea").nth(0).fill("the left column")
    card.locator("textarea").nth(1).fill(HOSTILE)
    card.get_by_role("button", name="Save and accept").click()
    assert card.locator(".hint dd").all_text_contents() == ["the left column", HOSTILE]
    page.reload()
    card = page.locator(".card").nth(2)
    expect(card.locator(".hint dd")).to_have_text(["the left column", HOSTILE])
    expect(card.locator(".edited span")).to_have_text("Edited")
    edited = {"p2": {"look": "the left column", "reason": HOSTILE}}
    assert downloaded(page)[0] == {"accepted": ["p2"], "rejected": [], "edited": edited}
    card.locator(".accept").click()
    assert "not accepted" in card.locator(".edited span").text_content()
    card.locator(".accept").click()
    card.get_by_role("button", name="Take the edit back").click()
    assert card.locator(".hint dd").all_text_contents() == ["look 2", "reason 2"]
    assert downloaded(page)[0] == {"accepted": ["p2"], "rejected": []}


def test_editing_by_keys_and_leaving_it(opened):
    page = opened()
    page.keyboard.press("j")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("jar")
    page.keyboard.press("Escape")
    assert page.locator(".card").first.locator(".hint dd").first.text_content() == "look 0"
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("jar")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("j")
    assert downloaded(page)[0]["edited"] == {"p0": {"look": "jar", "reason": "reason 0"}}
    assert page.locator(".card.current .question").text_content() == HOSTILE, "keys move again"


def test_an_edit_without_text_is_not_saved(opened):
    page = opened()
    card = page.locator(".card").first
    card.get_by_role("button", name="Edit").click()
    card.locator("textarea").nth(1).fill("  ")
    card.get_by_role("button", name="Save and accept").click()
    assert card.locator("textarea").nth(1).evaluate("(e) => e === document.activeElement")
    assert page.text_content("#n-accepted") == "0"


def test_what_was_measured_stands_beside_and_sorts(opened):
    page = opened()
    measured = page.locator(".card").nth(3).locator(".measures dd").all_text_contents()
    assert measured == ["3 of 8 (chance 0.125, p 0.125)", "2 of 8 without, 7 of 8 with: +0.625"]
    page.select_option("#order", "gain")
    assert titles(page)[:3] == ["question 4?", "question 12?", "question 20?"], "0 of 8 with the hint"
    page.select_option("#order", "right")
    assert titles(page)[:3] == ["question 8?", "question 17?", "question 26?"]
    page.select_option("#order", "guessed")
    assert titles(page)[0] == "question 8?"
    page.locator("#by-verdict label", has_text="Rejected").click()
    assert titles(page)[-1] == "question 76?", "hints without a measure come last, in the order of the file"
    page.select_option("#order", "file")
    assert titles(page)[0] == "question 0?"


def test_filters_and_search(opened):
    page = opened()
    page.locator("#by-verdict label", has_text="Rejected").click()
    assert page.text_content("#count") == "250 of 1000 hints"
    page.locator("#by-reason label", has_text="Gives the answer").click()
    assert page.text_content("#count") == "250 of 1000 hints"
    page.fill("#search", "QUESTION 996")
    playwright.expect(page.locator("#count")).to_have_text("1 of 1000 hints")
    assert titles(page) == ["question 996?"]
    page.fill("#search", "nothing like this")
    page.wait_for_selector("text=No hint matches these filters.")
    page.click("#clear")
    assert page.text_content("#count") == "1000 hints"
    page.locator(".accept").nth(0).click()
    page.locator("#by-mark label", has_text="Accepted").click()
    assert titles(page) == ["question 0?"]


def test_typing_in_the_search_marks_nothing(opened):
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("jar")
    assert page.input_value("#search") == "jar"
    assert page.text_content("#n-accepted") == "0"


def test_answers_can_be_hidden_and_shown_one_by_one(opened):
    page = opened()
    page.keyboard.press("h")
    assert page.locator(".answer output:visible").count() == 0
    page.locator(".answer button").nth(2).click()
    assert page.locator(".answer output:visible").all_text_contents() == ["answer 2"]


def test_images_stand_where_the_question_puts_them(opened):
    card = opened().locator(".card").nth(18)
    shown = card.locator(".question").evaluate("node => [...node.childNodes].map((part) => part.nodeName)")
    assert shown == ["#text", "BUTTON", "#text", "BUTTON", "#text"]
    assert card.locator(".pictures").count() == 0


def test_an_image_can_be_enlarged(opened):
    page = opened()
    page.locator(".pictures button").first.click()
    assert page.locator("#zoom img").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#zoom img").is_visible()


def test_every_control_has_a_name(opened):
    page = opened()
    page.locator(".reject").first.click()
    page.locator(".card").first.get_by_role("button", name="Edit").click()
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, img, textarea, select')]
             .filter((e) => e.offsetParent)
             .filter((e) => !(e.getAttribute('aria-label') || e.alt || e.textContent.trim() || e.labels?.length))
             .map((e) => e.outerHTML)"""
    )
    assert nameless == []


def luminance(colour):
    channels = [value / 255 for value in colour]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(opened, scheme):
    page = opened(scheme=scheme)
    page.locator(".accept").nth(0).click()
    page.locator(".reject").nth(2).click()
    page.locator(".card").nth(3).get_by_role("button", name="Edit").click()
    page.keyboard.type("x")
    page.keyboard.press("Control+Enter")
    pairs = page.evaluate(
        """[...document.querySelectorAll('.question, .hint dd, .hint dt, .badge, .meta span, .marked, .why b,'
             + ' .measures dd, .measures dt, .because span, .edited span, .why span, .chip span, .accept, .reject,'
             + ' #download, #summary, #count, .link')]
           .filter((e) => e.offsetParent).map((e) => {
             let behind = e;
             while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
             const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
             return [rgb(getComputedStyle(e).color), rgb(getComputedStyle(behind).backgroundColor), e.className];
           })"""
    )
    assert len(pairs) > 50
    for ink, ground, name in pairs:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


@pytest.mark.parametrize(("width", "height"), [(360, 800), (768, 1024), (1400, 900), (2200, 1200)])
def test_nothing_is_cut_off_at_any_width(opened, width, height):
    page = opened(width, height)
    page.locator(".reject").first.click()
    page.locator(".card").nth(3).get_by_role("button", name="Edit").click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#sheet").evaluate("(e) => e.open") == (width >= 1024)
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('.actions button')].map((e) => e.offsetHeight))"
    )
    assert smallest >= 44


def test_without_storage_the_page_works_and_says_so(browser, page_file):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })")
    page.goto(page_file.as_uri())
    assert page.locator("#no-storage").is_visible()
    page.keyboard.press("j")
    page.keyboard.press("a")
    assert page.text_content("#n-accepted") == "1"
    context.close()
