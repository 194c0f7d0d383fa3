"""Hints for a file of problems from a server on loopback."""

import json

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service, WorkFiles, read_failures
from ptdpo.hints.build import BuildSettings, build_hints
from ptdpo.hints.prompt import system_prompt
from tests.chat.loopback import Say, user_text
from tests.hints.build_worker import no_leak

QUICK = ClientSettings(concurrency=8, first_wait=0.001, longest_wait=0.01, timeout=5.0)


def hint(text="the bar"):
    return Say(json.dumps({"look": text, "reason": "compare"}))


def question(body):
    """The question of a request, whichever attempt it is."""
    return user_text(body).split("Question:\n")[1].split("\n\nVerified")[0]


def build(server, problems, out, *, fallback=None, check=no_leak, review=None, client=QUICK, **settings):
    service = Service(Endpoint(server.url, "m"), fallback and Endpoint(fallback.url, "strong"), client)
    return build_hints(problems, out, service, BuildSettings(system_prompt(), **settings), check=check, review=review)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def failures(out):
    return read_failures(WorkFiles.beside(out).failed)


def stored(out):
    path = WorkFiles.beside(out).requests
    return path.read_bytes().count(b"\n") if path.exists() else 0
