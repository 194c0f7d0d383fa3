"""Processes of a test, forked from one that has imported torch, TRL and the package once.

An interpreter of its own takes ten seconds of CPU for these imports, torchrun with two workers three times as many.
"""

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.torchrun import free_port

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(
    ["ptdpo.train", "ptdpo.evaluate.run", "ptdpo.solutions.build", "ptdpo.cli", "torch.distributed.fsdp"]
)
LONGEST = 400.0


def start(target: Callable[..., None], *arguments: object, said: Path, **environment: str) -> BaseProcess:
    """Start a function of a module in a process of its own, with these variables; what it says goes to ``said``."""
    process = _fork.Process(target=_begin, args=(target, arguments, str(said), environment))
    process.start()
    return process


def command(*arguments: object, said: Path, **environment: str) -> BaseProcess:
    """Start ``ptdpo`` with these arguments, as ``python -m ptdpo`` does."""
    return start(_command, *map(str, arguments), said=said, **environment)


def gloo_processes(worker: str, *arguments: object, said: Path, count: int = 2) -> None:
    """Run ``main`` of a module on gloo processes, with the variables that torchrun gives them; fail as they do."""
    size = str(count)
    launched = {
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    all_of_them = [
        start(_worker, worker, *map(str, arguments), said=said, RANK=rank, LOCAL_RANK=rank, **launched)
        for rank in map(str, range(count))
    ]
    end = time.monotonic() + LONGEST
    while any(process.exitcode is None for process in all_of_them):
        wait([process.sentinel for process in all_of_them if process.exitcode is None], timeout=end - time.monotonic())
        if time.monotonic() > end or any(process.exitcode for process in all_of_them):
            for process in all_of_them:
                process.kill()
                process.join()
    assert [process.exitcode for process in all_of_them] == [0] * count, said.read_text()[-4000:]


def _begin(target: Callable[..., None], arguments: tuple[object, ...], said: str, environment: dict[str, str]) -> None:
    with open(said, "ab", 0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    import torch

    torch.set_num_threads(1)
    target(*arguments)


def _command(*arguments: str) -> None:
    from ptdpo import cli

    sys.argv = ["ptdpo", *arguments]
    cli.main()


def _worker(module: str, *arguments: str) -> None:
    importlib.import_module(module).main(*arguments)
    # gloo's threads now and then keep a process from ending, as soon as what holds them is freed: leave with it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
