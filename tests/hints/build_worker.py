"""Builds hints in a process of its own, for tests that kill or interrupt it: problems, out, url, concurrency."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service
from ptdpo.hints.build import BuildSettings, build_hints
from ptdpo.hints.prompt import system_prompt
from ptdpo.signals import REQUEUE, StoppedBySignal


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reasons: list[str] = field(default_factory=list)


def no_leak(problem, hint):
    """Rejects hints that hold the word leak."""
    return Verdict(False, ["tells the answer"]) if "leak" in hint.look + hint.reason else Verdict(True)


def main(problems, out, url, concurrency):
    settings = ClientSettings(concurrency=int(concurrency), first_wait=0.001, longest_wait=0.01)
    service = Service(Endpoint(url, "m"), settings=settings)
    report = build_hints(Path(problems), Path(out), service, BuildSettings(system_prompt()), check=no_leak)
    print(report.done, report.known, len(report.failed))


def run(*arguments):
    try:
        main(*arguments)
    except StoppedBySignal:
        sys.exit(REQUEUE)
