"""The HTTP service under load: reads against a bare FastAPI route, many creates at once, and memory.

Real processes on loopback, in front of a simulator whose pods run nothing; the client is as plain as it can be.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from benchmarks.measure import Figure, alternating
from runner_provisioner.simulators.pods.host import InertHost
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

T = TypeVar("T")
READS, ROUNDS, CREATES, REQUESTS, CONNECTIONS = 2000, 5, 200, 100_000, 16
READ_GOAL = 2.5  # a bare route's time: 40 % of its requests per second
GROWTH_GOAL = 1.1
START = 60.0  # seconds
GPU = "NVIDIA RTX A4000"
HISTORY, PODS = "/api/v1/pods/history", "/api/cloud/pods"
_BARE = """
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/")
async def read(offset: int = 0, limit: int = 100) -> dict[str, object]:
    return {"data": [], "total_count": 0, "offset": offset, "limit": limit}
uvicorn.run(app, port=PORT, log_config=None, access_log=False)
"""
_QUICK = {
    "RUNNER_PROVISIONER_SETTLE": "0.3",
    "RUNNER_PROVISIONER_RATE_PER_SECOND": "100000",
    "RUNNER_PROVISIONER_RATE_PER_MINUTE": "100000",
}


def figures(reads: int = READS, rounds: int = ROUNDS, requests: int = REQUESTS) -> list[Figure]:
    """All of them, in one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = SimulatedWorld(folder, host=InertHost(), plan=WorldPlan())
        with world, _served(folder, world) as (process, url):
            return [_creates(folder, world, url), *_reads(url, reads, rounds), _memory(process.pid, url, requests)]


def _creates(folder: Path, world: SimulatedWorld, url: str) -> Figure:
    """Every one of many creates at once is one pod and one row of the history."""
    world.market(RunPodSimulator).market.set_stock(GPU, 2 * CREATES)
    body = json.dumps({"name": "bench", "image_name": "x/y", "gpu_type_id": GPU}).encode()
    begin = time.perf_counter()
    answers = asyncio.run(_send(url, [("POST", PODS, body)] * CREATES, connections=CREATES))
    seconds = time.perf_counter() - begin
    with sqlite3.connect(folder / "service.sqlite3") as database:
        rows = database.execute("SELECT count(*), count(DISTINCT id) FROM served_pods WHERE id IS NOT NULL").fetchone()
    missing = max(abs(CREATES - found) for found in (answers.count(200), len(world.live()), *rows))
    how = f"answers, pods and rows of {CREATES} creates at once, in {seconds:.1f} s"
    return Figure(name="creates lost or doubled", value=missing, goal=0, unit="pods", detail=how, binding=True)


def _reads(url: str, reads: int, rounds: int) -> Sequence[Figure]:
    with _bare() as bare:
        works = [partial(_read, bare, "/", reads), partial(_read, url, HISTORY, reads)]
        for work in works:
            work()
        plain, ours = alternating(works, rounds)
    how = f"median of {rounds} alternating runs of {reads}; bare: {reads / plain:.0f}/s, ours: {reads / ours:.0f}/s"
    return [Figure(name="a read of state, of a bare route", value=ours / plain, goal=READ_GOAL, unit="x", detail=how)]


def _read(url: str, path: str, times: int) -> None:
    _well(asyncio.run(_send(url, [("GET", path, b"")] * times)))


def _memory(pid: int, url: str, requests: int) -> Figure:
    """Resident memory after many requests, as a multiple of that after a tenth of them."""
    sizes = []
    for part in range(10):
        numbers = range(part * requests // 10, (part + 1) * requests // 10)
        answers = asyncio.run(_send(url, [_any(number) for number in numbers]))
        if max(answers) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RuntimeError(f"not every request was served: {set(answers)}")
        sizes.append(_resident(pid))
    how = f"{sizes[0] // 1024} MiB after {requests // 10} requests, {sizes[-1] // 1024} MiB after {requests}"
    return Figure(name="memory after many requests", value=sizes[-1] / sizes[0], goal=GROWTH_GOAL, unit="x", detail=how)


def _any(number: int) -> tuple[str, str, bytes]:
    """Reads, mistakes and refused writes, each unlike those before: what is kept of one must not pile up."""
    if number % 100 == 0:
        return ("POST", PODS, json.dumps({"name": f"n{number}", "gpu_type_id": "none"}).encode())
    paths = (f"{HISTORY}?offset={number}", f"/api/cloud/nothing/{number}", "/healthz", f"{HISTORY}?limit=0&n={number}")
    return ("GET", paths[number % len(paths)], b"")


def _well(statuses: Sequence[int]) -> None:
    if set(statuses) != {200}:
        raise RuntimeError(f"not every request was served: {set(statuses)}")


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


async def _send(url: str, requests: Sequence[tuple[str, str, bytes]], *, connections: int = CONNECTIONS) -> list[int]:
    """The statuses of all, sent over so many kept connections."""
    waiting = list(requests)
    statuses: list[int] = []
    place = urlsplit(url)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while waiting:
            method, path, body = waiting.pop()
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            if body:
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            statuses.append(int(answer.split()[1]))
            length = re.search(r"content-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
    return statuses


@contextmanager
def _served(folder: Path, world: SimulatedWorld) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    said = folder / "said"
    environ = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        **world.environment,
        **_QUICK,
        "HOME": str(folder),
        "RUNNER_PROVISIONER_DATABASE": str(folder / "service.sqlite3"),
    }
    command = [sys.executable, "-m", "runner_provisioner", "serve", "--port", "0", "--rate-limit", "0"]
    with said.open("wb") as stream:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=stream, stderr=stream)
    try:
        yield process, _wait(lambda: re.search(r"serving at (\S+)", said.read_text()))[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START)


@contextmanager
def _bare() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _BARE.replace("PORT", str(port))])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: _answers(port))
        yield url
    finally:
        process.terminate()
        process.wait(START)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(ready: Callable[[], T | None]) -> T:
    """What it gives once it gives something."""
    end = time.monotonic() + START
    while not (found := ready()):
        if time.monotonic() > end:
            raise TimeoutError(f"not ready within {START:.0f} s")
        time.sleep(0.05)
    return found
