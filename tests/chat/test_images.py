"""Images that go to a server: their own bytes, or what fits its limits."""

import base64
import io

import pytest
from PIL import Image

from ptdpo.chat.images import ImageLimits, data_url
from ptdpo.chat.requests import ChatMessage, ChatRequest
from tests.chat.asking import ask, scripted
from tests.chat.loopback import LoopbackServer


def decoded(url):
    head, _, content = url.partition(";base64,")
    return head, base64.b64decode(content)


def test_an_image_goes_as_its_own_bytes(tmp_path, picture):
    asked = ChatRequest("1", "m", (ChatMessage("user", "see", (str(picture),)),))
    with LoopbackServer(scripted()) as server:
        ask(server, tmp_path / "s.jsonl", asked)
    image, text = server.received[0]["messages"][0]["content"]
    assert decoded(image["image_url"]["url"]) == ("data:image/png", picture.read_bytes())
    assert text == {"type": "text", "text": "see"}


@pytest.mark.parametrize("limits", [ImageLimits(bytes=4_000), ImageLimits(pixels=1_000), ImageLimits(3_000, 1_000)])
def test_an_image_over_the_limits_is_encoded_anew(picture, limits):
    _, content = decoded(data_url(picture, limits))
    with Image.open(io.BytesIO(content)) as image:
        assert len(content) <= limits.bytes
        assert image.width * image.height <= limits.pixels
        assert image.width / image.height == pytest.approx(4 / 3, rel=0.05)


def test_a_format_that_servers_do_not_take_becomes_png(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.bmp")
    head, content = decoded(data_url(tmp_path / "a.bmp"))
    assert head == "data:image/png"
    assert Image.open(io.BytesIO(content)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_bad_images_are_named_and_nothing_is_sent(tmp_path, picture):
    broken = tmp_path / "torn.png"
    broken.write_bytes(picture.read_bytes()[:2_000])
    paths = [str(tmp_path / "absent.png"), str(broken), str(tmp_path)]
    with LoopbackServer(scripted()) as server:
        errors = ask(
            server, tmp_path / "s.jsonl", *(ChatRequest("1", "m", (ChatMessage("user", "?", (p,)),)) for p in paths)
        )
    assert not server.received
    for error, path, why in zip(errors, paths, ("no such image", "not a readable image", "is a folder"), strict=True):
        assert isinstance(error, ValueError)
        assert path in str(error)
        assert why in str(error)
