"""A pod for the start script: a loopback server that plays every remote party, a tiny runner, and a real process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from runner_provisioner.bootstrap.render import RunnerScript, render, render_gate
from runner_provisioner.domain.gate import GATE
from runner_provisioner.domain.request import RunAs
from runner_provisioner.domain.runners import RunnerDownload

NOBODY = 65534
# Tests run side by side as one account, and the start script knows the job's processes by the pod's id.
POD_ID = f"pod{os.getpid()}"
TOKEN = f"ARTOKENPLANTED{os.getpid():07}Q2W9XK4M5Z8LJ3"
POD_KEY = 'rpa_PLANTED"pod\\scoped$key'

# What config.sh and run.sh share: `tell KIND` posts what is on stdin to the loopback server.
_COMMON = r"""
tell() {
	local body line
	IFS= read -rd '' body
	exec 3<>/dev/tcp/127.0.0.1/PORT
	printf 'POST /told/%s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$1" "${#body}" "$body" >&3
	while IFS= read -r line <&3 && [ "$line" != $'\r' ]; do :; done
	cat <&3
	exec 3>&-
}
"""

_CONFIG = (
    "#!/bin/bash\n"
    + _COMMON
    + r"""
{ printf '%s\n' "$@" "uid=$UID"; env; } | tell config
case $(tell ask-config </dev/null) in
taken) echo "A runner exists with the same name. Token $ACTIONS_RUNNER_INPUT_TOKEN"; exit 1 ;;
# In place of the shell: what it started after the look that a signal brings would hear nothing of it.
hang) exec sleep 600 ;;
esac
: >.runner
"""
)

_RUN = (
    "#!/bin/bash\n"
    + _COMMON
    + r"""
trap 'echo "listener got TERM" ; date +%s.%N | tell listener-term >/dev/null; exit 0' TERM
{ env; grep SigIgn /proc/self/status; ls -ld . config.sh ..; } | tell listening >/dev/null
echo "2026-11-21 00:00:00Z: Listening for Jobs"
while job=$(tell ask-job </dev/null); [ "$job" = wait ]; do sleep 0.1; done
[ "$job" = gone ] && exit 0
echo "2026-11-21 00:00:01Z: Running job: $job"
(
	cd ../work && export GITHUB_REPOSITORY=Some-Org/Some-Repo GITHUB_RUN_ID=42
	[ "$job" = foreign ] && GITHUB_REPOSITORY=evil/repo
	[ "$job" = otherrun ] && GITHUB_RUN_ID=43
	if ! bash -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED" >guard.log 2>&1; then
		tell refused <guard.log
		[ "$job" = foreign ] && sleep 60
		exit
	fi
	tell step </dev/null >step.sh
	bash -e step.sh 2>&1 | tell step-log
	bash -e "$ACTIONS_RUNNER_HOOK_JOB_COMPLETED"
) &
wait $!
echo "2026-11-21 00:00:09Z: Job $job completed with result: Succeeded"
"""
)


@dataclass
class World:
    """What the remote parties were told, and what they answer."""

    told: list[tuple[str, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    config: str = "ok"
    job: str = "build"
    step: str = "echo hello from the job"
    refuse_rest: bool = False
    broken_downloads: int = 0
    requests: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    port: int = 0
    tarball: bytes = b""
    url: str = ""

    def first(self, kind: str) -> str:
        """The first thing of this kind that was told."""
        return next(text for what, text in self.told if what == kind)

    def has(self, kind: str) -> bool:
        """Whether anything of this kind was told."""
        return any(what == kind for what, _ in self.told)

    def answer(self, method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, bytes]:
        """Play RunPod, GitHub's download and the runner's private channel."""
        self.requests.append((method, path, headers, body))
        if path.startswith("/told/"):
            return 200, self._hear(path.removeprefix("/told/"), body).encode()
        if path == "/runner.tar.gz":
            return 200, self.tarball
        if path == "/moved.tar.gz":
            return 302, b""
        return self._end(method, path, headers, body)

    def _hear(self, kind: str, body: str) -> str:
        self.told.append((kind, body))
        return {"ask-config": self.config, "ask-job": self.job, "step": self.step}.get(kind, "")

    def _end(self, method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, bytes]:
        if headers.get("authorization") != f"Bearer {POD_KEY}":
            return 401, b""
        if method == "DELETE" and path == f"/v2/pods/{POD_ID}":
            if self.refuse_rest:
                return 500, b""
            self.ended.set()
            return 204, b""
        if method == "POST" and path == "/graphql":
            assert json.loads(body)["query"] == f'mutation{{podTerminate(input:{{podId:"{POD_ID}"}})}}'
            self.ended.set()
            return 200, b'{"data":{"podTerminate":null}}'
        return 404, b""


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = world.answer(self.command, self.path, headers, body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{world.url}/runner.tar.gz")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status != 204 and self.path == "/runner.tar.gz" and world.broken_downloads:
                world.broken_downloads -= 1
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif status != 204:
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own
            """Say nothing."""

    return Handler


def runner_tarball(port: int) -> bytes:
    """A runner that does what the loopback server tells it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in (("config.sh", _CONFIG), ("run.sh", _RUN)):
            data = text.replace("PORT", str(port)).encode()
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode, info.uid, info.gid = len(data), 0o755, 1001, 1001
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@contextmanager
def world(context: ssl.SSLContext | None = None) -> Iterator[World]:
    """Serve a World on loopback; with a TLS context also over https (as `url`)."""
    state = World()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))]
    state.port = servers[0].server_address[1]
    state.url = f"http://127.0.0.1:{state.port}"
    state.tarball = runner_tarball(state.port)
    if context:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)))
        servers[1].socket = context.wrap_socket(servers[1].socket, server_side=True)
        state.url = f"https://localhost:{servers[1].server_address[1]}"
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def script_for(state: World, **changes: object) -> RunnerScript:
    """A script for this world."""
    values: dict[str, object] = {
        "name": "rp-1a2b3c4d-16-1-default",
        "url": "https://github.com/some-org/some-repo",
        "token": TOKEN,
        "labels": ("rp-abcdefghijklmnopqrstuvwxyz",),
        "download": RunnerDownload(
            version="2.338.0", url=f"{state.url}/runner.tar.gz", sha256=hashlib.sha256(state.tarball).hexdigest()
        ),
        "run_as": RunAs.SAME,
        "idle_seconds": 60,
        "lifetime_seconds": 120,
        "register_seconds": 60,
        "owner": "some-org",
        "repository": "some-org/some-repo",
        "run_id": 42,
        "graphql_url": f"{state.url}/graphql",
        "rest_url": f"{state.url}/v2",
    }
    return RunnerScript(**(values | changes))  # type: ignore[arg-type]


@dataclass
class Pod:
    """A start command as a real process, in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    scratch: Path

    def text(self) -> str:
        """The container's log so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait for something that a real process does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)


def unprivileged() -> list[str]:
    """The words that make a command run without root's rights."""
    if os.geteuid():
        return []
    return [
        str(shutil.which("setpriv")),
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
    ]


@contextmanager
def pod(
    script: RunnerScript,
    scratch: Path,
    *,
    env: Mapping[str, str] | None = None,
    prefix: list[str] | None = None,
    command: list[str] | None = None,
) -> Iterator[Pod]:
    """Run the start command as an ordinary user in `scratch`; whatever is left of it is killed."""
    scratch.mkdir(parents=True, exist_ok=True)
    if not os.geteuid():
        for folder in (scratch, *scratch.parents):
            if folder.stat().st_uid == 0 and "pytest" in str(folder):
                folder.chmod(0o755)
        os.chown(scratch, NOBODY, NOBODY)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "RUNPOD_POD_ID": POD_ID,
        "RUNPOD_API_KEY": POD_KEY,
        "RP_OWNER": "1a2b3c4d",
        "JUPYTER_PASSWORD": "planted-jupyter",
        "IMAGE_SAYS": "kept",
        GATE: render_gate(script.gate, jit=script.token is None),
    } | dict(env or {})
    argv = [*(unprivileged() if prefix is None else prefix), *(command or ["bash", "-c", render(script)])]
    log = scratch.parent / f"{scratch.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    try:
        yield Pod(process, log, scratch)
    finally:
        _kill_all(process)
        process.wait()
        # Shown with a test that fails.
        print(log.read_text(errors="replace"))  # noqa: T201


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    left = [process.pid, *descendants(process.pid), *marked()]
    while left:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        left = marked()


def descendants(root: int) -> list[int]:
    """Every process below this one, by /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def marked() -> list[int]:
    """Every process of the job of a test's pod, wherever it went."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if f"RUNNER_PROVISIONER={POD_ID}".encode() in environment and not zombie:
            found.append(int(folder.name))
    return found


def path_with(scratch: Path, *tools: str) -> str:
    """A PATH that holds these programs and what every image has, and nothing else."""
    folder = scratch / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    always = "bash base64 gzip rm mkdir chmod chown sleep cat tar sha256sum grep tail head env timeout date ls true git"
    always += " mv wc df sort"
    for name in (*always.split(), *tools):
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return str(folder)
