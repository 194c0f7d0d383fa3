"""Evaluation against a real HTTP server on loopback: complete, resumed, down, slow, and refused."""

import base64
import json
import time
from dataclasses import replace

import pytest

from ptdpo.chat.client import ClientSettings, Endpoint, EndpointError
from ptdpo.chat.requests import ChatReply
from ptdpo.evaluate.endpoint import EndpointEngine
from ptdpo.evaluate.run import DataChoice, evaluate
from ptdpo.evaluate.settings import SamplingSettings
from ptdpo.evaluate.store import ResponseStore
from ptdpo.evaluate.table import notes
from tests.chat.loopback import Cut, Hold, LoopbackServer, Refuse, Say, user_text
from tests.evaluate.fixtures import lines, png, rows_of, write_split
from tests.processes import command

FAST = ClientSettings(concurrency=4, timeout=10, attempts=3, first_wait=0.01, longest_wait=0.02, give_up_after=6)
TWICE = SamplingSettings(samples=2, max_new_tokens=64, extra='{"top_k": -1}')


def right(body, _number=0):
    """Answer with the label of ``rows_of``: the number of the question, or its letter."""
    number = int(user_text(body).split("Question ")[1].split(" ")[0])
    return Say(f"so</think>\n\\boxed{{{'ABCD'[number % 4] if number % 2 else number}}}", completion_tokens=7)


@pytest.fixture
def choice(tmp_path):
    return DataChoice(["geo3k"], {"geo3k": write_split(tmp_path / "copy", "geo3k", rows_of("geo3k", 6))})


def ask(tmp_path, choice, behave, *, sampling=TWICE, settings=FAST, out="out"):
    with LoopbackServer(behave) as server:
        engine = EndpointEngine(Endpoint(server.url, "served"), settings, "step 100")
        try:
            return server, evaluate(engine, choice, sampling, tmp_path / out, cache=tmp_path / "cache")
        except ValueError as error:
            return server, error


def test_every_question_is_asked_as_it_is_and_every_sample_kept(tmp_path, choice):
    server, results = ask(tmp_path, choice, right)
    (result,) = results.benchmarks
    assert (result.accuracy.mean, result.format, result.tokens, result.truncated) == (1.0, 1.0, 7.0, 0.0)
    assert len(server.received) == 12
    body = next(b for b in server.received if "Question 0 " in user_text(b))
    picture, text = body["messages"][0]["content"]
    assert base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,")) == png((0, 90, 120))
    assert "<image>" + text["text"] == rows_of("geo3k")[0]["messages"][0]["content"]
    sent = {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens", "top_k")}
    assert sent == {"model": "served", "temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "top_k": -1}
    assert len({b["seed"] for b in server.received}) == 12, "every sample has a seed of its own"
    model = results.settings.model
    assert (model.name, model.engine, model.revision, model.endpoint) == (
        "served", "endpoint", "step 100", server.url,
    )  # fmt: skip


def test_images_stand_where_their_markers_are(tmp_path):
    rows = rows_of("mmmu-pro", 1)
    rows[0]["messages"][0]["content"] = "Question 0 : <image> or <image>?"
    rows[0]["images"] = ["./data/images/x/a.png", "./data/images/x/b.png"]
    choice = DataChoice(["mmmu-pro"], {"mmmu-pro": write_split(tmp_path / "copy", "mmmu-pro", rows)})
    server, _ = ask(tmp_path, choice, right, sampling=SamplingSettings())
    kinds = [part["type"] for part in server.received[0]["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]


def test_a_finished_run_asks_nothing_and_may_move_to_another_server(tmp_path, choice):
    ask(tmp_path, choice, right)
    server, results = ask(tmp_path, choice, right)
    assert server.received == []
    assert results.benchmarks[0].accuracy.mean == 1.0


def test_trouble_that_passes_costs_no_sample(tmp_path, choice):
    actions = {0: Refuse(503), 2: Cut(0), 3: Cut(40), 5: Refuse(429)}
    server, results = ask(tmp_path, choice, lambda body, number: actions.get(number) or right(body))
    assert results.benchmarks[0].accuracy.mean == 1.0
    assert len(server.received) == 16
    assert len(lines(tmp_path / "out" / "geo3k" / "responses.jsonl")) == 12


def test_samples_that_cannot_be_had_are_counted_and_listed_and_the_others_kept(tmp_path, choice):
    def moody(body, _):
        return Refuse(400, "prompt too long") if "Question 3 " in user_text(body) else right(body)

    _, error = ask(tmp_path, choice, moody)
    told = str(error)
    assert "geo3k: 2 responses could not be had: hiyouga_geometry3k_3 sample " in told
    assert "prompt too long" in told
    assert len(lines(tmp_path / "out" / "geo3k" / "responses.jsonl")) == 10
    server, results = ask(tmp_path, choice, right)
    assert len(server.received) == 2, "only what was missing"
    assert results.benchmarks[0].accuracy.mean == 1.0


def test_an_endpoint_that_is_down_or_slow_is_one_clear_line(tmp_path, choice):
    engine = EndpointEngine(Endpoint("http://127.0.0.1:9/v1", "served"), FAST)
    with pytest.raises(EndpointError, match=r"127.0.0.1:9/v1: \d+ requests in a row failed, the last: no answer in 3"):
        evaluate(engine, choice, TWICE, tmp_path / "down", cache=tmp_path / "cache")
    _, error = ask(tmp_path, choice, lambda *_: Hold(Say("late")), settings=replace(FAST, timeout=0.2, attempts=1),
                   out="slow")  # fmt: skip
    assert isinstance(error, EndpointError)
    assert "no answer within 0.2 seconds" in str(error)
    assert "\n" not in str(error)
    _, error = ask(tmp_path, choice, lambda *_: Refuse(404, "no such model"), out="wrong")
    assert "check the base URL and the model 'served'" in str(error)


def test_a_server_that_knows_no_further_fields_is_told_how_and_the_folder_stays_free(tmp_path, choice):
    _, error = ask(tmp_path, choice, lambda body, _: Refuse(422, "extra") if "top_k" in body else right(body))
    assert "leave them out with --extra ''" in str(error)
    _, results = ask(tmp_path, choice, right, sampling=replace(TWICE, extra=""))
    assert results.settings.sampling.extra == ""


def test_other_settings_are_refused_and_a_cut_off_answer_is_counted(tmp_path, choice):
    _, results = ask(tmp_path, choice, lambda body, _: Say("no end", finish_reason="length"))
    assert results.benchmarks[0].truncated == 1.0
    _, error = ask(tmp_path, choice, right, sampling=replace(TWICE, extra=""))
    assert "made with sampling.extra='{\"top_k\": -1}', but now sampling.extra='' is" in str(error)


def test_a_server_that_does_not_sample_is_noticed(tmp_path, choice):
    """Every request of a question gets the same answer, as from a server that ignores the temperature."""
    _, results = ask(tmp_path, choice, right)
    assert any("the server may ignore the temperature" in note for note in notes(results))
    _, results = ask(tmp_path, choice, lambda body, number: Say(f"{number} \\boxed{{1}}"), out="other")
    assert notes(results) == ["Geo3K: 6 rows, the public source has 601"]


def test_thinking_that_comes_apart_is_put_back():
    assert ChatReply("\\boxed{1}", "stop", 1, 1).written_out == "\\boxed{1}"
    assert ChatReply("\\boxed{1}", "stop", 1, 1, "hm").written_out == "<think>\nhm\n</think>\n\n\\boxed{1}"
    assert ChatReply("", "length", 1, 1, "hm").written_out == "<think>\nhm"


def test_kill_9_and_the_same_command_again(tmp_path, choice):
    """Killed with requests in flight: no answered request is asked again, no sample lost or there twice."""
    out = tmp_path / "out"
    path = out / "geo3k" / "responses.jsonl"
    there = {"said": tmp_path / "said.txt", "PTDPO_CACHE": str(tmp_path / "cache")}
    with LoopbackServer(lambda body, number: right(body) if number < 5 else Hold(right(body))) as server:
        given = [
            "evaluate", "served", "--base-url", server.url, "--benchmarks", "geo3k",
            "--data", f"geo3k={choice.paths['geo3k']}", "--samples", "2", "--concurrency", "3", "--out", str(out),
        ]  # fmt: skip
        process = command(*given, **there)
        while process.exitcode is None and not (path.is_file() and len(lines(path)) >= 5):
            time.sleep(0.01)
        process.kill()
        process.join()
        answered = len(server.answered)
        assert answered == 5
        server.behave = right
        again = command(*given, **there)
        again.join()
        assert again.exitcode == 0, there["said"].read_text()
        asked = [json.dumps(body, sort_keys=True) for body in server.answered]
    assert len(asked) == len(set(asked)) == 12
    assert len({response.key for response in ResponseStore(out / "geo3k").read()}) == len(lines(path)) == 12
