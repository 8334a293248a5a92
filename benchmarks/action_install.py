"""How long the action's install step takes, cold and warm, beside `pip install gha-runner` in the same minutes.

gha-runner is a comparable tool that its own action installs from the package index. "Cold" is an empty home: no caches.
What it is compared with is the bare `pip install` into an environment that exists already, the making of which is not
counted; the action's time holds everything that it does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import Figure

ROUNDS = 5
COLD_GOAL = 1.5
ROOT = Path(__file__).resolve().parents[1]
PEER = "gha-runner"
KEPT = ("LANG", "SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY")


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """The action with uv, without uv (which it then fetches), and where an earlier step has installed already."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tools = {name: _tools(base / name, with_uv=name == "uv") for name in ("uv", "plain")}
        times: dict[str, list[float]] = {name: [] for name in ("peer", "uv", "plain", "warm")}
        for number in range(rounds):
            place = base / str(number)
            times["peer"].append(_peer(place / "peer"))
            for name, path in tools.items():
                times[name].append(_action(place / name, path))
            times["warm"].append(_action(place / "uv", tools["uv"]))
    peer = median(times["peer"])
    how = f"median of {rounds}; pip install {PEER} takes {peer:.2f} s"
    shown = {name: f"{median(taken):.2f} s, {how}" for name, taken in times.items()}
    return [
        Figure(
            name="action install, cold, uv present",
            value=median(times["uv"]) / peer,
            goal=COLD_GOAL,
            unit="x",
            detail=shown["uv"],
        ),
        Figure(
            name="action install, cold, no uv",
            value=median(times["plain"]) / peer,
            goal=COLD_GOAL,
            unit="x",
            detail=shown["plain"],
        ),
        Figure(
            name="action install, warm", value=median(times["warm"]) / peer, goal=0.1, unit="x", detail=shown["warm"]
        ),
    ]


def _tools(folder: Path, *, with_uv: bool) -> str:
    """A PATH with this interpreter and, if wanted, uv, besides what the system has."""
    folder.mkdir(parents=True)
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    uv = Path(sys.executable).with_name("uv")
    if with_uv:
        (folder / "uv").symlink_to(uv if uv.exists() else shutil.which("uv") or "uv")
    return f"{folder}:/usr/bin:/bin"


def _environment(place: Path, path: str) -> dict[str, str]:
    home = place / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "PATH": path, "HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _action(place: Path, path: str) -> float:
    (place / "temp").mkdir(parents=True, exist_ok=True)
    given = {
        "RUNNER_TEMP": str(place / "temp"),
        "GITHUB_OUTPUT": str(place / "output"),
        "GITHUB_ACTION_PATH": str(ROOT),
    }
    return _timed(["bash", str(ROOT / "action" / "install.sh")], {**_environment(place, path), **given})


def _peer(place: Path) -> float:
    environment = _environment(place, "/usr/bin:/bin")
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], env=environment, check=True)
    return _timed([str(place / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", PEER], environment)


def _timed(command: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin
