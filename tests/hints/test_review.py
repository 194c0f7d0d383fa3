import json
import re

import pytest
from PIL import Image

from ptdpo.hints import HintVerdict
from ptdpo.hints.review import ReviewRow, review_page, small_image_url
from ptdpo.records import Hint, Problem

HOSTILE = "</script><script>document.title='x'</script> <!-- & \u2028 {{ y }} ${z}"
FIT = HintVerdict(True, [])


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((1200, 900), 90).convert("RGB").save(path)
    return str(path)


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def test_nothing_a_model_wrote_becomes_markup(photo):
    row = ReviewRow(Problem(HOSTILE, (photo,), HOSTILE, HOSTILE, HOSTILE), Hint(HOSTILE, HOSTILE), FIT)
    html = review_page([row], HOSTILE).html
    assert html.count("</script>") == 2, "the data and the script of the page, nothing else"
    assert "document.title='x'" not in html.partition("<body>")[0]
    shown = data_of(html)["rows"][0]
    assert [shown[name] for name in ("id", "problem", "answer", "look", "reason")] == [HOSTILE] * 5


def test_the_page_loads_nothing_from_outside(photo):
    html = review_page([ReviewRow(Problem("1", (photo,), "q", "a"), Hint("l", "r"), FIT)], "t").html
    for outside in ("http://", "https://", "@import", 'src="/', "<link"):
        assert outside not in html
    assert "default-src 'none'" in html


def test_images_are_downscaled_and_stored_once(photo):
    rows = [ReviewRow(Problem(str(n), (photo, photo), "q", "a"), Hint("l", "r"), FIT) for n in range(3)]
    data = data_of(review_page(rows, "t", image_size=100).html)
    assert len(data["images"]) == 1
    assert [row["images"] for row in data["rows"]] == [[0, 0]] * 3
    assert len(data["images"][0]) < 20_000


def test_photographs_become_jpeg_and_drawings_stay_png(photo, scenes):
    assert small_image_url(photo, 4000).startswith("data:image/png"), "gray noise has few colours"
    Image.effect_mandelbrot((300, 300), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(photo)
    assert small_image_url(scenes[0].problem.images[0], 512).startswith("data:image/png")
    gradient = Image.merge(
        "RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    )
    gradient.save(photo)
    assert small_image_url(photo, 512).startswith("data:image/jpeg")


def test_a_page_over_its_limit_is_refused_with_advice(photo):
    row = ReviewRow(Problem("1", (photo,), "q", "a"), Hint("l", "r"), FIT)
    with pytest.raises(ValueError, match="--image-size below 512"):
        review_page([row], "t", max_megabytes=0.01)
    with pytest.raises(ValueError, match=r"over the limit of 0\.01"):
        review_page([ReviewRow(Problem("1", (), "q" * 100_000, "a"), Hint("l", "r"), FIT)], "t", max_megabytes=0.01)


def test_an_unreadable_image_is_named_and_the_rest_is_shown(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = (str(tmp_path / "broken.png"), str(tmp_path / "missing.png"))
    page = review_page([ReviewRow(Problem("p7", images, "q", "a"), Hint("l", "r"), FIT)], "t")
    assert [line.partition(":")[0] for line in page.unreadable] == ["p7", "p7"]
    assert data_of(page.html)["rows"][0]["images"] == []


def test_a_new_hint_gets_a_new_key_and_the_same_keeps_its_own():
    problem = Problem("1", (), "q", "a")
    hints = [Hint("l", "r"), Hint("l", "other"), Hint("l", "r")]
    keys = [data_of(review_page([ReviewRow(problem, h, FIT)], "t").html)["rows"][0]["key"] for h in hints]
    assert keys[0] == keys[2] != keys[1]
