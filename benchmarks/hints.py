"""Hints over the network: throughput, memory and start-up of ``ptdpo hints build`` against a server on loopback.

The server runs in a process of its own and answers every request after a fixed latency. Writes results/hints.json.
Run: make bench, or python benchmarks/hints.py --help
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
HINT = {
    "look": "Look at the two bars on the left of the chart and at the scale of its vertical axis; ignore the legend.",
    "reason": "Compare how far each bar reaches on the axis, then take the difference; beware of the broken scale.",
}
_BUILD = """
import sys
from pathlib import Path
from ptdpo.hints import check_hint
from ptdpo.hints.build import BuildSettings, build_hints
from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service
from ptdpo.hints.prompt import system_prompt
problems, out, url, concurrency = sys.argv[1:]
service = Service(Endpoint(url, "m"), settings=ClientSettings(concurrency=int(concurrency)))
report = build_hints(Path(problems), Path(out), service, BuildSettings(system_prompt()), check=check_hint)
assert not report.failed, report.failed[:3]
"""


def serve(latency: float, pipe) -> None:
    """Answer chat completions after a fixed latency; tell the time of the first and the last answer when asked."""
    message = {"role": "assistant", "content": json.dumps(HINT)}
    usage = {"prompt_tokens": 1000, "completion_tokens": 60, "total_tokens": 1060}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    times: list[float] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                times.append(time.time())
                await asyncio.sleep(latency)
                writer.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=2**26, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        pipe.send(times)
        server.close()

    asyncio.run(run())


class Server:
    def __init__(self, latency: float) -> None:
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(latency, other), daemon=True)
        self.process.start()
        self.url = f"http://127.0.0.1:{self.pipe.recv()}/v1"

    def stop(self) -> list[float]:
        """End the server and return when each request arrived."""
        self.pipe.send(None)
        times = self.pipe.recv()
        self.process.terminate()
        return times


def write_problems(folder: Path, count: int, image: bool) -> Path:
    # Noise does not compress: about 120 kB of PNG for every request.
    Image.effect_noise((360, 340), 80).save(folder / "a.png")
    path = folder / "problems.jsonl"
    with path.open("w") as out:
        for number in range(count):
            question = f"In chart {number}, by how much does the first bar exceed the second? " + "More text. " * 20
            images = ["a.png"] if image else []
            row = {"id": str(number), "images": images, "problem": question, "answer": str(7 + number), "source": "b"}
            out.write(json.dumps(row) + "\n")
    return path


def build(problems: Path, out: Path, url: str, concurrency: int = 64) -> subprocess.Popen:
    command = [sys.executable, "-c", _BUILD, problems, out, url, concurrency]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL, env=environment)


def throughput(folder: Path, latency: float, rounds: int, image: bool, concurrency: int = 64) -> dict:
    """Requests per second from the first to the last arrival, against concurrency / latency."""
    problems = write_problems(folder, concurrency * rounds, image)
    server = Server(latency)
    process = build(problems, folder / "out.jsonl", server.url, concurrency)
    cpu = watch(process)[-1]["cpu_seconds"]
    times = server.stop()
    assert len(times) == concurrency * rounds
    # The last arrivals are answered one latency later: that is when the work is done.
    rate = len(times) / (max(times) + latency - min(times))
    return {
        "image": image, "latency": latency, "concurrency": concurrency, "requests": len(times), "per_second": rate,
        "share_of_ideal": rate * latency / concurrency, "cpu_ms_per_request": 1000 * cpu / len(times),
    }  # fmt: skip


def watch(process: subprocess.Popen, out: Path | None = None) -> list[dict]:
    """Follow a process to its end: resident memory, CPU time and lines written."""
    measured, handle = [], psutil.Process(process.pid)
    while process.poll() is None:
        try:
            with handle.oneshot():
                cpu, memory = handle.cpu_times(), handle.memory_info().rss
        except psutil.NoSuchProcess:
            break
        lines = out.read_bytes().count(b"\n") if out and out.exists() else 0
        measured.append({"lines": lines, "mib": memory / 2**20, "cpu_seconds": cpu.user + cpu.system})
        time.sleep(0.5)
    assert process.wait() == 0
    return measured


def memory(folder: Path, count: int) -> dict:
    """Resident memory while so many problems with an image each are worked on."""
    problems = write_problems(folder, count, image=True)
    server = Server(0.02)
    out = folder / "out.jsonl"
    measured = watch(build(problems, out, server.url), out)
    server.stop()
    fifths = [
        statistics.median(m["mib"] for m in measured if count * n / 5 <= m["lines"] < count * (n + 1) / 5)
        for n in range(5)
    ]
    return {"problems": count, "mib_by_fifth": fifths, "growth_mib": fifths[-1] - fifths[0]}


def start_up(folder: Path, count: int, runs: int) -> dict:
    """Seconds from the start of the process to its first request, with so many lines done and one problem open."""
    problems = write_problems(folder, count + 1, image=False)
    seconds, cpu = [], []
    for run in range(runs):
        out = folder / f"out{run}.jsonl"
        write_done(problems, out, count)
        server = Server(0.0)
        start = time.time()
        process = build(problems, out, server.url)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        (arrived,) = server.stop()
        seconds.append(arrived - start)
        cpu.append(used.ru_utime + used.ru_stime)
        size = out.stat().st_size + out.with_name(f"out{run}.requests.jsonl").stat().st_size
    return {
        "lines": count, "megabytes": size / 1e6, "seconds_to_first_request": seconds, "cpu_seconds_of_whole_run": cpu,
    }  # fmt: skip


def write_done(problems: Path, out: Path, count: int) -> None:
    """Write an output and its answered requests as an earlier run leaves them."""
    from ptdpo.data.identity import question_hash
    from ptdpo.data.scan import read_problems

    reply = {"text": json.dumps(HINT), "finish_reason": "stop", "prompt_tokens": 1000, "completion_tokens": 60,
             "reasoning": "thinking " * 100}  # fmt: skip
    with out.open("w") as lines, out.with_name(f"{out.stem}.requests.jsonl").open("w") as requests:
        for number, problem in enumerate(read_problems(problems)[:count]):
            row = {"id": problem.id, "hint": HINT, "model": "m", "attempts": 1, "rejected": [],
                   "question_hash": question_hash(problem)}  # fmt: skip
            lines.write(json.dumps(row) + "\n")
            requests.write(json.dumps({"key": f"{number:064x}", "id": problem.id, "reply": reply}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A tenth of the work, nothing written.")
    quick = parser.parse_args().quick
    part = 10 if quick else 1
    with tempfile.TemporaryDirectory() as name:

        def fresh() -> Path:
            return Path(tempfile.mkdtemp(dir=name))

        result = {
            "load_average_before": os.getloadavg()[0],
            "cpus": os.cpu_count(),
            "start_up": start_up(fresh(), 40_000 // part, 3),
            "throughput": [
                throughput(fresh(), latency, max(2, rounds // part), image)
                for latency, rounds, image in ((5.0, 15, False), (5.0, 15, True), (2.0, 30, False))
            ],
            "memory": memory(fresh(), 20_000 // part),
        }
    show(result)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "hints.json").write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict) -> None:
    console = Console()
    table = Table("latency", "image", "requests", "per second", "of concurrency / latency", "CPU ms per request")
    for row in result["throughput"]:
        table.add_row(
            f"{row['latency']} s", "120 kB" if row["image"] else "none", str(row["requests"]),
            f"{row['per_second']:.1f}", f"{row['share_of_ideal']:.3f}", f"{row['cpu_ms_per_request']:.1f}",
        )  # fmt: skip
    console.print(table)
    fifths = ", ".join(f"{mib:.0f}" for mib in result["memory"]["mib_by_fifth"])
    console.print(f"memory by fifth of {result['memory']['problems']} problems: {fifths} MiB")
    started = result["start_up"]
    console.print(
        f"first request after {statistics.median(started['seconds_to_first_request']):.2f} s with {started['lines']} "
        f"lines done; CPU time of the whole run {statistics.median(started['cpu_seconds_of_whole_run']):.2f} s; "
        f"load average before: {result['load_average_before']:.1f} on {result['cpus']} CPUs"
    )


if __name__ == "__main__":
    main()
