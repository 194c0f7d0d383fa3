"""The client against a real server on loopback that misbehaves on command."""

import asyncio
import base64
import io
import json
import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from PIL import Image

from ptdpo.chat.client import ChatClient, ClientSettings, Endpoint, EndpointError, RequestError
from ptdpo.chat.images import ImageLimits, data_url
from ptdpo.chat.limits import RateLimiter, Stopped, StopSignal
from ptdpo.chat.pool import pooled
from ptdpo.chat.progress import Usage
from ptdpo.chat.requests import ChatMessage, ChatRequest, ResponseSchema, Sampling, request_key
from ptdpo.chat.store import RequestStore
from tests.chat.loopback import Cut, Hold, LoopbackServer, Raw, Refuse, Say, user_text

QUICK = ClientSettings(first_wait=0.001, longest_wait=0.01, timeout=5.0)


def request(text="question", **fields):
    return ChatRequest(id="1", model="m", messages=(ChatMessage("user", text),), **fields)


def ask(server, store, *requests, settings=QUICK, usage=None, key_env="PTDPO_TEST_KEY"):
    """Ask all requests at once; return replies, or the errors in their place."""

    async def run():
        with RequestStore(store) as kept:
            async with ChatClient(Endpoint(server.url, "m", key_env), kept, settings=settings, usage=usage) as client:
                return await asyncio.gather(*(client.ask(r) for r in requests), return_exceptions=True)

    return asyncio.run(run())


def scripted(*actions):
    """Behave as listed, then answer."""
    return lambda body, number: actions[number] if number < len(actions) else Say("fine")


def test_a_reply_is_kept_and_never_asked_for_again(tmp_path):
    usage = Usage(price_in=2.0, price_out=4.0)
    with LoopbackServer(lambda body, _: Say(f"re: {user_text(body)}", prompt_tokens=500_000)) as server:
        (first,) = ask(server, tmp_path / "s.jsonl", request(), usage=usage)
        (again,) = ask(
            server, tmp_path / "s.jsonl", request(), usage=usage, settings=replace(QUICK, timeout=9, concurrency=1)
        )
    assert first == again
    assert (first.text, first.finish_reason, first.prompt_tokens, first.completion_tokens) == (
        "re: question",
        "stop",
        500_000,
        5,
    )
    assert len(server.received) == 1
    assert (usage.requests, usage.reused) == (1, 1)
    assert usage.cost == pytest.approx(1.00002)


@pytest.mark.parametrize(
    "trouble",
    [
        Refuse(429, headers={"Retry-After": "0"}),
        Refuse(500),
        Refuse(503),
        Refuse(408),
        Cut(0),
        Cut(40),
        Cut(250),
        Raw("{broken"),
        Raw("[]"),
        Raw('"text"'),
        Raw('{"choices": []}'),
        Raw("{}"),
    ],
    ids=repr,
)
def test_passing_trouble_is_tried_again(tmp_path, trouble):
    usage = Usage()
    with LoopbackServer(scripted(trouble, trouble)) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(), usage=usage)
    assert getattr(reply, "text", reply) == "fine"
    assert (len(server.received), usage.retries, usage.requests) == (3, 2, 1)


def test_a_slow_answer_times_out_and_is_tried_again(tmp_path):
    with LoopbackServer(scripted(Say("late", delay=3.0))) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, timeout=0.3))
    assert (reply.text, len(server.received)) == ("fine", 2)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured_by_every_request(tmp_path, as_date):
    times = []

    def behave(body, number):
        times.append(time.monotonic())
        wait = formatdate(time.time() + 2, usegmt=True) if as_date else "0.4"
        return Refuse(429, headers={"Retry-After": wait}) if number == 0 else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", request("a"), request("b"), settings=settings)
    assert [reply.text for reply in replies] == ["fine", "fine"]
    assert times[1] - times[0] >= 0.4


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RequestError), (403, RequestError), (413, RequestError), (401, EndpointError), (404, EndpointError)],
)
def test_mistakes_are_not_repeated_and_quote_the_server(tmp_path, status, kind):
    with LoopbackServer(lambda *_: Refuse(status, "no such thing as that")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request())
    assert isinstance(error, kind)
    assert isinstance(error, ValueError)
    assert f"status {status}: no such thing as that" in str(error)
    assert server.url in str(error)
    assert len(server.received) == 1


def test_an_empty_account_ends_the_run_although_it_is_a_429(tmp_path):
    with LoopbackServer(lambda *_: Refuse(429, "pay first", code="insufficient_quota")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request())
    assert isinstance(error, EndpointError)
    assert len(server.received) == 1


def test_after_the_last_attempt_a_request_has_failed_and_says_why(tmp_path):
    with LoopbackServer(lambda *_: Refuse(500, "on fire")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, attempts=3))
    assert isinstance(error, RequestError)
    assert str(error) == "no answer in 3 attempts; the last: status 500: on fire"
    assert len(server.received) == 3


def test_a_server_that_always_fails_ends_the_run(tmp_path):
    settings = replace(QUICK, give_up_after=3, concurrency=1)
    with LoopbackServer(lambda *_: Refuse(400, "bad field")) as server:
        errors = ask(server, tmp_path / "s.jsonl", *(request(str(n)) for n in range(3)), settings=settings)
    assert [type(error) for error in errors] == [RequestError, RequestError, EndpointError]
    assert "3 requests in a row failed" in str(errors[2])


def test_no_server_at_all(tmp_path):
    with LoopbackServer(scripted()) as server:
        pass
    (error,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, attempts=2))
    assert "connection broken" in str(error)


def test_thirty_percent_failures_lose_nothing(tmp_path):
    def behave(body, number):
        return (Refuse(500), Cut(60), Raw("{"))[number % 3] if number % 10 < 3 else Say(user_text(body))

    requests = [request(f"question {n}") for n in range(200)]
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", *requests)
        assert [reply.text for reply in replies] == [f"question {n}" for n in range(200)]
        assert len(server.answered) == 200
        ask(server, tmp_path / "s.jsonl", *requests)
    assert len(server.answered) == 200


def test_concurrency_is_bounded_and_used(tmp_path):
    with LoopbackServer(lambda *_: Say("fine", delay=0.02)) as server:
        ask(server, tmp_path / "s.jsonl", *(request(str(n)) for n in range(40)), settings=replace(QUICK, concurrency=5))
    assert server.peak == 5


def test_the_key_comes_from_the_environment_and_is_never_shown_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PTDPO_TEST_KEY", "sk-very-secret")

    def behave(body, number):
        return Refuse(401, "wrong key sk-very-secret given") if user_text(body) == "bad" else Say("fine")

    with LoopbackServer(behave) as server:
        _, error = ask(server, tmp_path / "s.jsonl", request(), request("bad"))
    assert server.headers[0]["authorization"] == "bearer sk-very-secret"
    assert "***" in str(error)
    assert "sk-very-secret" not in str(error) + (tmp_path / "s.jsonl").read_text()
    assert "PTDPO_TEST_KEY is not accepted" in str(error)
    monkeypatch.delenv("PTDPO_TEST_KEY")
    with LoopbackServer(lambda *_: Refuse(401, "key?")) as server:
        (error,) = ask(server, tmp_path / "s2.jsonl", request())
    assert "PTDPO_TEST_KEY is not set" in str(error)


SCHEMA = ResponseSchema("hint", {"type": "object"})


def test_a_schema_is_dropped_for_good_when_the_server_does_not_know_it(tmp_path):
    def behave(body, _):
        return Refuse(400, "response_format?") if "response_format" in body else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", *(request(t, schema=SCHEMA) for t in "abc"), settings=settings)
    assert [reply.text for reply in replies] == ["fine"] * 3
    assert ["response_format" in body for body in server.received] == [True, False, False, False]


def test_a_refusal_for_another_reason_keeps_the_schema(tmp_path):
    def behave(body, _):
        return Refuse(400, "bad image") if user_text(body) == "a" else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        error, reply = ask(server, tmp_path / "s.jsonl", *(request(t, schema=SCHEMA) for t in "ab"), settings=settings)
    assert "bad image" in str(error)
    assert reply.text == "fine"
    assert server.received[-1]["response_format"]["json_schema"]["name"] == "hint"


def test_newer_models_get_the_limit_under_its_newer_name(tmp_path):
    def behave(body, _):
        return Refuse(400, "use 'max_completion_tokens' instead") if "max_tokens" in body else Say("fine")

    with LoopbackServer(behave) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(sampling=Sampling(max_tokens=7)))
    assert reply.text == "fine"
    assert server.received[-1]["max_completion_tokens"] == 7


def test_the_body_holds_what_was_asked_for(tmp_path):
    asked = request(sampling=Sampling(max_tokens=9, temperature=0.5, top_p=None, seed=3, extra='{"top_k": 20}'))
    with LoopbackServer(scripted()) as server:
        ask(server, tmp_path / "s.jsonl", asked)
    (body,) = server.received
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "question"}],
        "max_tokens": 9, "temperature": 0.5, "seed": 3, "top_k": 20,
    }  # fmt: skip


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((80, 60), 90).convert("RGB").save(path)
    return path


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


def test_the_key_of_a_request_is_its_content(picture):
    base = ChatRequest("1", "m", (ChatMessage("user", "see", (str(picture),)),))
    others = [
        replace(base, id="2"), replace(base, model="n"), replace(base, sample=1), replace(base, prompt_version="2"),
        replace(base, sampling=Sampling(temperature=0.5)), replace(base, schema=SCHEMA),
        replace(base, messages=(ChatMessage("user", "look", (str(picture),)),)),
    ]  # fmt: skip
    keys = [request_key(r) for r in (base, *others)]
    assert len(set(keys)) == len(keys)
    moved = picture.with_name("moved.png")
    moved.write_bytes(picture.read_bytes())
    assert request_key(replace(base, messages=(ChatMessage("user", "see", (str(moved),)),))) == keys[0]
    picture.write_bytes(picture.read_bytes() + b" ")
    assert request_key(base) != keys[0]


def test_a_torn_last_line_is_cut_off_and_asked_for_again(tmp_path):
    store = tmp_path / "s.jsonl"
    with LoopbackServer(lambda body, _: Say(user_text(body) * 50_000)) as server:
        ask(server, store, *(request(t) for t in "abc"))
        whole = store.read_bytes()
        store.write_bytes(whole[:-7])
        ask(server, store, *(request(t) for t in "abc"))
    assert [user_text(body) for body in server.received[3:]] == [user_text(server.received[2])]
    assert [json.loads(line)["key"] for line in store.read_text().splitlines()] == [
        json.loads(line)["key"] for line in whole.decode().splitlines()
    ]


def test_a_broken_line_in_the_middle_counts_as_not_answered(tmp_path):
    store = tmp_path / "s.jsonl"
    with LoopbackServer(scripted()) as server:
        ask(server, store, request("a"), request("b"))
        lines = store.read_text().splitlines()
        store.write_text(f"{lines[0][:90]}\nnonsense\n{lines[1]}\n")
        replies = ask(server, store, request("a"), request("b"))
    assert [reply.text for reply in replies] == ["fine", "fine"]
    assert len(server.received) == 3


def test_two_runs_cannot_write_one_store(tmp_path):
    with RequestStore(tmp_path / "s.jsonl"), pytest.raises(ValueError, match="another run is writing"):
        RequestStore(tmp_path / "s.jsonl")


def test_nothing_new_is_sent_after_the_stop_and_what_is_in_flight_is_kept(tmp_path):
    store = tmp_path / "s.jsonl"

    async def run(server):
        stop, replies = StopSignal(), []
        with RequestStore(store) as kept:
            async with ChatClient(Endpoint(server.url, "m"), kept, settings=QUICK, stop=stop) as client:
                watch = asyncio.create_task(halt(server, stop))
                async for reply in pooled((request(str(n)) for n in range(100)), client.ask, concurrency=4, stop=stop):
                    replies.append(reply)
                await watch
                with pytest.raises(Stopped):
                    await client.ask(request("new"))
        return replies

    async def halt(server, stop):
        while server.in_flight < 4:
            await asyncio.sleep(0.01)
        stop.set()
        server.release()

    with LoopbackServer(lambda *_: Hold(Say("fine"))) as server:
        replies = asyncio.run(run(server))
    assert len(replies) == len(server.received) == len(store.read_text().splitlines()) == 4


def test_waiting_ends_with_the_stop():
    async def run():
        stop = StopSignal()
        limiter = RateLimiter(requests_per_minute=1)
        await limiter.wait(1, stop)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        with pytest.raises(Stopped):
            await limiter.wait(1, stop)

    asyncio.run(run())


def test_requests_and_tokens_are_spaced(monkeypatch):
    """On a clock of our own: 120 requests a minute are half a second apart, 600 tokens a minute 0.1 s per token."""
    clock, slept = [100.0], []
    monkeypatch.setattr("ptdpo.chat.limits.time.monotonic", lambda: clock[0])

    class Stop(StopSignal):
        async def sleep(self, seconds):
            slept.append(round(seconds, 6))
            clock[0] += max(seconds, 0)

    async def run(limiter, costs):
        slept.clear()
        for estimated, actual in costs:
            await limiter.wait(estimated, Stop())
            limiter.settle(estimated, actual)
        return list(slept)

    assert asyncio.run(run(RateLimiter(120), [(0, 0)] * 3)) == [0, 0.5, 0.5]
    assert asyncio.run(run(RateLimiter(None, 600), [(5, 5), (5, 15), (5, 5)])) == [0, 0.5, 1.5]
    assert asyncio.run(run(RateLimiter(), [(9, 9)] * 2)) == [0, 0]


def test_the_mean_cost_is_the_estimate():
    limiter = RateLimiter()
    assert limiter.estimate(77) == 77
    limiter.settle(77, 10)
    limiter.settle(77, 20)
    assert limiter.estimate(77) == 15


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"timeout": 0}, {"attempts": -1}])
def test_settings_that_send_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ClientSettings(**settings)


@pytest.mark.parametrize("extra", ["{", "[]"])
def test_bad_extra_fields_are_refused(tmp_path, extra):
    with LoopbackServer(scripted()) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request(sampling=Sampling(extra=extra)))
    assert "extra fields" in str(error)


def test_an_address_must_be_one(tmp_path):
    with RequestStore(tmp_path / "s.jsonl") as store, pytest.raises(ValueError, match="http://"):
        ChatClient(Endpoint("localhost:8000", "m"), store)


def test_a_failure_in_the_pool_lets_the_others_finish():
    async def work(n):
        await asyncio.sleep(0.01 * n)
        if n == 1:
            raise EndpointError("gone")
        return n

    async def collect(done, taken):
        numbers = (taken.append(n) or n for n in range(10))
        async for result in pooled(numbers, work, concurrency=4, stop=StopSignal()):
            done.append(result)

    done, taken = [], []
    with pytest.raises(EndpointError, match="gone"):
        asyncio.run(collect(done, taken))
    assert {2, 3} <= set(done)
    assert set(done) == set(taken) - {1}
    assert len(taken) < 10
