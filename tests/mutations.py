"""Deliberate mistakes in central lines, each of which some test must catch: python -m tests.mutations [NAME ...].

Each mistake is made in a copy of ``src``; the tests that should see it run against that copy, in a process of their
own. Prints what survived; exit code 1 if anything did. Not a part of the suite: it takes minutes.
"""

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MISTAKES = Path(__file__).with_suffix(".yaml")
SECONDS = 600
PASSED, FAILED, CRASHED = 0, 1, 70
FORMULAS = "tests/train/test_objective.py::test_every_loss_and_gradient_is_that_of_the_formulas"
UNCHANGED = (f"{FORMULAS}[ptd-grpo]", f"{FORMULAS}[papo-printed]", "tests/algo/test_objectives.py")


@dataclass(frozen=True)
class Mutation:
    """One mistake: in a file below ``src/ptdpo``, ``old`` becomes ``new``; ``tests`` are asked."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_mutations() -> list[Mutation]:
    """Return the mistakes of ``mutations.yaml``."""
    return [
        Mutation(
            **{name: entry[name] for name in ("name", "file", "old", "new")},
            tests=(*entry.get("tests", ()), *(f"{FORMULAS}[{case}]" for case in entry.get("formulas", ()))),
        )
        for entry in yaml.safe_load(MISTAKES.read_text(encoding="utf-8"))
    ]


@dataclass(frozen=True)
class Answer:
    """What pytest said in a process of its own: its exit code, its words, the modules that it left loaded."""

    code: int
    lines: list[str]
    modules: list[str]


def ask(tests: Sequence[str], mutation: Mutation | None = None) -> Answer:
    """Run tests against a copy of the package, with a mistake in it or without.

    Raises:
        ValueError: if the mistake's line is not there any more.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "src", folder / "src")
        if mutation is not None:
            path = folder / "src" / "ptdpo" / mutation.file
            text = path.read_text(encoding="utf-8")
            if text.count(mutation.old) != 1:
                raise ValueError(f"{mutation.file} holds its line {text.count(mutation.old)} times")
            path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        child = os.fork()
        if child == 0:
            os._exit(_run(folder, tests))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said, loaded = (folder / name for name in ("said", "loaded"))
        return Answer(code, _lines(said), _lines(loaded))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _run(folder: Path, tests: Sequence[str]) -> int:
    """Run tests in this process, and return pytest's exit code."""
    import pytest

    signal.alarm(SECONDS)
    source = str(folder / "src")
    os.environ["PYTHONPATH"] = os.pathsep.join([source, str(ROOT)])
    sys.path[:0] = [source, str(ROOT)]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
    with (folder / "said").open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            code = int(pytest.main([*options, *tests]))
        except BaseException:
            traceback.print_exc()
            return CRASHED
    (folder / "loaded").write_text("\n".join(sys.modules))
    return code if str(sys.modules["ptdpo"].__path__[0]).startswith(source) else CRASHED


def verdict(answer: Answer) -> str:
    """Return what the tests say to a mistake: ``caught`` and by what, ``SURVIVED``, or that they were not asked."""
    if answer.code == PASSED:
        return "SURVIVED"
    if answer.code == -signal.SIGALRM:
        return f"caught: not done after {SECONDS} s"
    if answer.code != FAILED:
        return f"NOT ASKED: pytest ended with {answer.code}: {' / '.join(answer.lines[-3:])}"
    return "caught: " + next((line[1:].strip() for line in answer.lines if line.startswith("E  ")), "?")


def main(names: list[str]) -> int:
    """Make the mistakes named, or all; print by what each was caught, and what survived."""
    os.chdir(ROOT)
    # As in conftest.py, before anything reads it.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
    control = ask(UNCHANGED)
    if control.code != PASSED:
        print("the tests fail without any mistake", *control.lines, sep="\n")
        return 1
    # Libraries are loaded once; of ours each child loads its own copy.
    for module in control.modules:
        if module.partition(".")[0] not in ("ptdpo", "tests", "__main__", "conftest"):
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    chosen = [mutation for mutation in read_mutations() if not names or mutation.name in names]
    left = []
    for number, mutation in enumerate(chosen, start=1):
        try:
            said = verdict(ask(mutation.tests, mutation))
        except ValueError as error:
            said = f"NOT MADE: {error}"
        if not said.startswith("caught"):
            left.append(mutation.name)
        print(f"{number}/{len(chosen)} {mutation.name}: {said}", flush=True)
    print(f"{len(chosen) - len(left)} of {len(chosen)} caught; left: {', '.join(left) or 'none'}")
    return bool(left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
