"""Kill commands at random moments and at file operations, run them again, and compare with a run left alone.

    python -m tests.faults                         # the long form: 40 kills in training, 10 in each other command
    python -m tests.faults --kills train=2 hints=1 # the short one, as the tests run it

Only kills that hit count: they come while the command runs, and end it. A command survives one if the same command,
run again, ends with exit code 0 and leaves, to the last bit, what the undisturbed run left: weights and metrics of
training, hints, solutions, graded responses, tables of a comparison.
Every run is a fork of this process, which has imported everything once; its second process, where there are two, too.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ptdpo.data.files import write_hints, write_problems
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.records import Problem
from ptdpo.signals import REQUEUE
from ptdpo.train.checkpoints.manifest import check_whole, checkpoints_in
from tests.chat.loopback import LoopbackServer, Say, user_text
from tests.torchrun import free_port

LONG = {"train": 40, "train-2": 10, "hints": 10, "solutions": 10, "evaluate": 10, "compare": 10}
# A kill that comes after the end hits nothing and is tried again; so often for each that is asked for.
TRIES = 5
# Numbers that say how long something took differ between two runs.
_CLOCKS = ("seconds/", "elapsed", "step_time", "train_runtime", "seconds_per_step")


@dataclass(frozen=True)
class Case:
    """A command in a folder of its own: what it is, over how many processes, and what it must leave."""

    name: str
    arguments: Callable[[Path], list[str]]
    left: Callable[[Path], object]
    processes: int = 1


@dataclass
class Tally:
    """What became of the kills of a case: how many were tried, hit it while it ran, and were survived of those."""

    tried: int = 0
    hit: int = 0
    survived: int = 0
    faults: int = 0


# -- running and killing ---------------------------------------------------------------------------------------


def start(arguments: list[str], folder: Path, processes: int, die_at: int = 0) -> list[int]:
    """Fork a command; with ``die_at`` its first process kills itself at that file operation."""
    port = free_port()
    return [_fork(arguments, folder, rank, processes, port, die_at if rank == 0 else 0) for rank in range(processes)]


def _fork(arguments: list[str], folder: Path, rank: int, processes: int, port: int, die_at: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        with open("said.txt", "ab", 0) as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        if processes > 1:
            launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            os.environ |= {name: str(value) for name, value in launched.items()}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        _count_file_operations(folder / "operations.txt" if rank == 0 else None, die_at)
        from ptdpo import cli

        sys.argv = ["ptdpo", *arguments]
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def _count_file_operations(note: Path | None, die_at: int) -> None:
    """Count what changes files; kill this process at the operation ``die_at``: before it, after it, or half-way."""
    count = 0

    def dies() -> bool:
        nonlocal count
        count += 1
        if note is not None and not die_at:
            note.write_text(str(count))
        return count == die_at

    def counted(operation: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **keywords: object) -> object:
            last = dies()
            if last and count % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = operation(*arguments, **keywords)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run

    for name in ("replace", "rename", "fsync", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    write = os.write

    def written(number: int, content: bytes) -> int:
        # Pipes and sockets are written to as well, and keep nothing.
        if stat.S_ISREG(os.fstat(number).st_mode) and dies():
            write(number, content[: (0, len(content) // 2, len(content))[count % 3]])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(number, content)

    os.write = written


def wait(pids: list[int], seconds: float | None = None, number: int = signal.SIGKILL) -> list[int]:
    """Wait for all; after ``seconds`` send them a signal. Returns exit codes, negative for signals."""
    end = None if seconds is None else time.monotonic() + seconds
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    if codes[pid] < 0 and len(pids) > 1:
                        # As torchrun does when one process dies.
                        for other in pids:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(other, signal.SIGKILL)
        if end is not None and time.monotonic() > end:
            end = None
            for pid in pids:
                if pid not in codes:
                    os.kill(pid, number)
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def torment(case: Case, home: Path, kills: int, rng: random.Random, tell: Callable[[str], None]) -> Tally:
    """Kill a command until so many kills have hit; a run that was killed is gone on with until it is done."""
    tally = Tally()
    if not kills:
        return tally
    calm = home / f"{case.name}-calm"
    calm.mkdir()
    began = time.monotonic()
    codes = wait(start(case.arguments(calm), calm, case.processes))
    seconds = time.monotonic() - began
    if any(codes):
        raise RuntimeError(
            f"{case.name}: the undisturbed run failed with {codes}: {(calm / 'said.txt').read_text()[-2000:]}"
        )
    expected, operations = case.left(calm), int((calm / "operations.txt").read_text())
    folder = home / case.name
    # Kills that hit a run which is not done yet: whether they were survived shows when it is.
    undecided = 0
    while tally.hit < kills and tally.tried < TRIES * kills:
        folder.mkdir(exist_ok=True)
        tally.tried += 1
        how, codes = _killed(case, folder, operations, seconds, rng)
        hit = any(code < 0 or code == REQUEUE for code in codes)
        tally.hit += hit
        undecided += hit
        fault = "" if _ended_as_they_may(codes) else f"ended with {codes}"
        # Some kills hit one run in a row; the last of them is followed by a run that nobody disturbs.
        if tally.hit < kills and rng.random() < 0.3 and not fault:
            tell(f"{case.name} {tally.tried}: {how}, {codes}; killed again before it is done")
            continue
        if not fault:
            fault = _fault_of_next_run(case, folder, expected)
        tally.survived += 0 if fault else undecided
        tally.faults += bool(fault)
        tell(f"{case.name} {tally.tried}: {how}, {codes}: {fault or ('survived' if hit else 'came too late')}")
        undecided = 0
        if fault:
            shutil.move(folder, home / f"{case.name}-fault-{tally.tried}")
        else:
            shutil.rmtree(folder)
    return tally


def _killed(case: Case, folder: Path, operations: int, seconds: float, rng: random.Random) -> tuple[str, list[int]]:
    """Run a command and kill it: how, and the exit codes of its processes."""
    arguments = case.arguments(folder)
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    if rng.random() < 0.5:
        die_at = rng.randint(1, operations)
        codes = wait(start(arguments, folder, case.processes, die_at))
        return f"kill at file operation {die_at} of {operations}", codes
    when = rng.uniform(0, seconds)
    codes = wait(start(arguments, folder, case.processes), when, number)
    return f"{signal.Signals(number).name} after {when:.2f} s of {seconds:.2f}", codes


def _ended_as_they_may(codes: list[int]) -> bool:
    """Return whether processes ended well, or by the kill; one whose partner was killed may miss it first and fail."""
    return any(code < 0 for code in codes) or all(code in (0, REQUEUE) for code in codes)


def _fault_of_next_run(case: Case, folder: Path, expected: object) -> str:
    """Return what is wrong with a run that nobody disturbs, or with what it leaves; empty if nothing is."""
    codes = wait(start(case.arguments(folder), folder, case.processes))
    if any(codes):
        return f"the next run ended with {codes}: {(folder / 'said.txt').read_text()[-300:]}"
    try:
        same = case.left(folder) == expected
    except (OSError, ValueError, KeyError) as error:
        # A file that is missing or cut off, or a checkpoint that is not whole.
        return f"left what cannot be read ({' '.join(str(error).split())})"
    return "" if same else "left something else than the undisturbed run"


# -- the commands ----------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(_CLOCKS)} for row in rows]


def _by_id(path: Path) -> list[dict[str, object]]:
    return sorted(_rows(path), key=lambda row: (str(row["id"]), str(row.get("sample", ""))))


def _trained(folder: Path) -> object:
    run = folder / "run"
    for checkpoint in checkpoints_in(run):
        check_whole(checkpoint)
    left_over = sorted(path.name for path in run.iterdir() if path.name.startswith("damaged"))
    finished = (run / "finished.json").exists()
    return (run / "model.safetensors").read_bytes(), _rows(run / "metrics.jsonl"), left_over, finished


def _compared(folder: Path) -> object:
    content = json.loads((folder / "out" / "comparison.json").read_text())
    for runs in content["runs"].values():
        for run in runs:
            run.pop("seconds_per_step")
    return content


def cases(inputs: Path, url: str) -> list[Case]:
    """Return the commands; all read what ``make_inputs`` made."""
    problems, server = ["--problems", f"{inputs}/q.jsonl"], ["--base-url", url, "--model", "m", "--concurrency", "2"]
    recipe, recipe2 = f"{inputs}/recipe.yaml", f"{inputs}/recipe-2.yaml"
    evaluation = ["--instruction", "", "--max-new-tokens", "6", "--batch-size", "3", "--samples", "2"]
    return [
        Case("train", lambda _: ["train", recipe, "output_dir=run"], _trained),
        Case("train-2", lambda _: ["train", recipe2, "output_dir=run"], _trained, 2),
        Case("hints", lambda _: ["hints", "build", *problems, "--out", "h.jsonl", *server],
             lambda folder: _by_id(folder / "h.jsonl")),
        Case("solutions", lambda _: ["solutions", "build", *problems, "--out", "s.jsonl", *server, "--samples", "2"],
             lambda f: _by_id(f / "s.jsonl")),
        Case("evaluate", lambda _: ["evaluate", f"{inputs}/tiny", f"{inputs}/p.jsonl", "--out", "out", *evaluation],
             lambda f: (_by_id(f / "out" / "p" / "responses.jsonl"), (f / "out" / "table.csv").read_bytes())),
        Case("compare", lambda _: ["compare", f"{inputs}/grpo.yaml", f"{inputs}/recipe.yaml", "--seeds", "0,1", "--out",
                                   "out", "--set", "max_steps=2"], _compared),
    ]  # fmt: skip


def make_inputs(folder: Path, tiny: str) -> None:
    """Write problems, hints and recipes; ``tiny`` is the folder of a tiny model."""
    rules = hidden_rules(0)
    scenes = make_scenes(folder / "images", "train", [(name, rules[name]) for name in NAMES], seed=0)
    write_problems(folder / "p.jsonl", [scene.problem for scene in scenes])
    asked = "What is {} more than the number in the table?"
    write_problems(folder / "q.jsonl", [Problem(str(n), (), asked.format(n), str(n + 1), "sums") for n in range(12)])
    write_hints(folder / "h.jsonl", {scene.problem.id: scene.hint for scene in scenes}, "rule")
    shutil.copytree(tiny, folder / "tiny")
    settings = {
        "output_dir": "run", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "num_generations": 4,
        "steps_per_generation": 2, "max_completion_length": 6, "max_steps": 6, "learning_rate": 0.001,
        "tutoring_k": 10, "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "steps",
        "save_steps": 2, "save_total_limit": 2, "disable_tqdm": True, "activation_checkpointing": False,
    }  # fmt: skip
    data = {"path": f"{folder}/p.jsonl", "hints": f"{folder}/h.jsonl", "instruction": "", "max_prompt_tokens": 256}
    evaluate = {"test": f"{folder}/p.jsonl", "max_new_tokens": 6, "batch_size": 8}
    plain = {name: value for name, value in settings.items() if not name.startswith("tutoring")}
    whole = {"preset": "ptd-grpo", "model": f"{folder}/tiny", "data": data, "train": settings, "evaluate": evaluate}
    for name, recipe in {
        "recipe": whole,
        "recipe-2": {**whole, "processes": 2, "train": {**settings, "ddp_timeout": 60}},
        "grpo": {**whole, "preset": "grpo", "train": plain},
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def answer(body: dict, _: int) -> Say:
    """A server whose answers depend on the question alone: a hint, or the right number."""
    if "response_format" in body:
        hint = {
            "look": "Look at the first column of the table.",
            "reason": "Then add the amount in the question to it.",
        }
        return Say(json.dumps(hint), delay=0.01)
    found = re.search(r"What is (\d+) more", user_text(body))
    return Say(f"<think>I add one.</think>\n\\boxed{{{int(found[1]) + 1 if found else 0}}}", delay=0.01)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own; this one must not have threads when it forks."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with LoopbackServer(answer) as server:
            os.write(writing, server.url.encode())
            os.close(writing)
            signal.pause()
    os.close(writing)
    try:
        yield os.read(reading, 100).decode()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _warm_up() -> None:
    """Import what commands import, once for all forks."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    import torch

    import ptdpo.compare.run
    import ptdpo.evaluate.run
    import ptdpo.solutions.build
    import ptdpo.train.run  # noqa: F401

    torch.set_num_threads(1)


def table(found: dict[str, Tally]) -> str:
    """Return the outcome as a Markdown table."""
    rows = [f"| {name} | {one.tried} | {one.hit} | {one.survived} |" for name, one in found.items()]
    return "\n".join(["| command | kills tried | hit while it ran | survived |", "|---|---|---|---|", *rows])


def main() -> int:
    """Print the table; exit code 1 if a kill was not survived, or too few hit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", nargs="*", default=[f"{n}={k}" for n, k in LONG.items()], help="command=number of kills that hit"
    )
    parser.add_argument("--tiny", help="folder of a tiny model, as `ptdpo data tiny-vlm` makes it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="keep everything in this folder")
    given = parser.parse_args()
    kills = {name: int(number) for name, _, number in (one.partition("=") for one in given.kills)}
    if unknown := kills.keys() - LONG.keys():
        parser.error(f"--kills {', '.join(sorted(unknown))}: choose among {', '.join(LONG)}")
    _warm_up()
    home = Path(given.keep or tempfile.mkdtemp(prefix="faults-"))
    home.mkdir(parents=True, exist_ok=True)
    tiny = given.tiny
    if tiny is None:
        tiny = str(home / "tiny")
        wait(start(["data", "tiny-vlm", tiny], home, 1))
    make_inputs(home / "inputs", tiny)
    rng, found = random.Random(given.seed), {}
    with serving() as url:
        for case in cases(home / "inputs", url):
            if case.name in kills:
                found[case.name] = torment(case, home, kills[case.name], rng, lambda line: print(line, flush=True))
    print(table(found))
    survived = all(one.survived == one.hit >= kills[name] and not one.faults for name, one in found.items())
    if survived and given.keep is None:
        shutil.rmtree(home)
    else:
        print(f"everything is in {home}")
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
