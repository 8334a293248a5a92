"""The simulated GitHub: one object with a Python interface and an ASGI application.

    sim = GitHubSimulator(clock)
    sim.add_repository("octo/hello"); sim.add_token("ghp_x")
    with sim.serve() as server: ...   # GITHUB_API_URL = GITHUB_SERVER_URL = server.url

Both `http://HOST` and `http://HOST/api/v3` are API addresses. Everything may be called from any thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

from runner_provisioner.simulators.faults import Call, Fault, Faults
from runner_provisioner.simulators.github import control, rest_apps, rest_artifacts, rest_runners, rest_runs
from runner_provisioner.simulators.github.artifacts import PLACE, Artifact, packed
from runner_provisioner.simulators.github.entities import (
    DEFAULT_GROUP,
    Account,
    ApiError,
    Group,
    Repository,
    RunnerRecord,
)
from runner_provisioner.simulators.github.lines import Lines
from runner_provisioner.simulators.github.rest import Rest
from runner_provisioner.simulators.github.runner_api import TEXT, RunnerApi, is_session
from runner_provisioner.simulators.github.runs import Job, Run, Runs
from runner_provisioner.simulators.github.state import Settings, SimClock, World
from runner_provisioner.simulators.github.tarball import runner_archive
from runner_provisioner.simulators.github.tokens import OWNER_PERMISSIONS, App, Installation, Principal
from runner_provisioner.simulators.serving import Loopback, Receive, Scope, Send, after, answer, before, read_body

APP_PERMISSIONS = {"administration": "write", "actions": "write", "organization_self_hosted_runners": "write"}
PREFIX_KINDS = {"ghp_": "classic", "github_pat_": "fine"}


class GitHubSimulator:
    """GitHub for one test, one rehearsal or one demonstration.

    `faults` orders failures by operation name (the rest_* modules and runner_api list theirs); `violations` collects
    every request or answer outside GitHub's schema and every rule of the house that a client broke.
    """

    def __init__(self, clock: SimClock, settings: Settings | None = None) -> None:
        self.clock = clock
        self.world = World(clock)
        self.world.settings = settings or self.world.settings
        self.runs = Runs(self.world)
        self.faults = Faults(clock.now)
        routes = rest_apps.ROUTES + rest_runners.ROUTES + rest_runs.ROUTES + rest_artifacts.ROUTES
        self._rest = Rest(self.world, self.runs, routes)
        self._runner_api = RunnerApi(self.world, self.runs)

    # ------------------------------------------------------------------ what there is
    @property
    def settings(self) -> Settings:
        """How this GitHub behaves; may be changed at any time."""
        return self.world.settings

    @property
    def violations(self) -> list[str]:
        """What was not as it should be; empty after a good test."""
        return self.world.violations

    @property
    def calls(self) -> list[Call]:
        """Every request by operation name."""
        return self.faults.calls

    def add_organisation(self, login: str) -> Account:
        """An organisation with its default runner group."""
        with self.world.lock:
            return self.world.account(login, organisation=True)

    def add_repository(self, full_name: str, *, private: bool = True, workspace: Path | None = None) -> Repository:
        """A repository; its owner becomes a user unless it is an organisation already."""
        owner, _, name = full_name.partition("/")
        with self.world.lock:
            repository = Repository(
                id=self.world.next_id() + 1000,
                owner=self.world.account(owner),
                name=name,
                private=private,
                workspace=workspace,
                created_at=self.clock.now(),
            )
            self.world.repositories[repository.key] = repository
            return repository

    def rename_repository(self, full_name: str, name: str) -> None:
        """Requests for the old name are answered 301 (307 when they write)."""
        with self.world.lock:
            self.world.rename(self.world.repository(full_name), name)

    def add_group(
        self, organisation: str, name: str, *, repositories: Iterable[str] | None = None, allows_public: bool = True
    ) -> Group:
        """A runner group, for all repositories or (full names) for some."""
        with self.world.lock:
            groups = self.world.groups[organisation.lower()]
            ids = {self.world.repository(each).id for each in repositories or ()}
            group = Group(
                id=DEFAULT_GROUP + len(groups),
                name=name,
                visibility="all" if repositories is None else "selected",
                repositories=ids,
                allows_public=allows_public,
            )
            groups.append(group)
            return group

    def add_app(
        self, app_id: int, client_id: str, key_pem: str, *, permissions: Mapping[str, str] | None = None
    ) -> App:
        """Register a GitHub App by its public or private key."""
        return self.world.credentials.add_app(app_id, client_id, key_pem, permissions or APP_PERMISSIONS)

    def install_app(
        self,
        app_id: int,
        account: str,
        *,
        repositories: Iterable[str] | None = None,
        permissions: Mapping[str, str] | None = None,
        suspended: bool = False,
    ) -> Installation:
        """Install it on an account, for all of its repositories or for some (full names)."""
        with self.world.lock:
            ids = None if repositories is None else [self.world.repository(each).id for each in repositories]
            found = self.world.credentials.install(app_id, self.world.account(account), ids, permissions)
            found.suspended_at = self.clock.now() if suspended else None
            return found

    def add_token(
        self,
        token: str,
        permissions: Mapping[str, str] | None = None,
        *,
        repositories: Iterable[str] | None = None,
        expires_in: float | None = None,
    ) -> Principal:
        """A personal access token (`ghp_` classic, `github_pat_` fine-grained), by default with every permission."""
        kind = next((kind for prefix, kind in PREFIX_KINDS.items() if token.startswith(prefix)), "classic")
        with self.world.lock:
            ids = None if repositories is None else frozenset(self.world.repository(each).id for each in repositories)
        expires = None if expires_in is None else self.clock.now() + timedelta(seconds=expires_in)
        held = dict(OWNER_PERMISSIONS if permissions is None else permissions)
        principal = Principal(
            kind=kind, name=f"{kind} {token[-4:]}", permissions=held, repositories=ids, expires_at=expires
        )
        return self.world.credentials.add_token(token, principal)

    def revoke_token(self, token: str) -> None:
        """From now on it is "Bad credentials"."""
        self.world.credentials.revoke(token)

    # ------------------------------------------------------------------ runs and jobs
    def queue_run(
        self,
        repository: str,
        workflow_text: str,
        *,
        provided: Mapping[str, Mapping[str, str]] | None = None,
        context: Mapping[str, object] | None = None,
        secrets: Mapping[str, str] | None = None,
        given: Mapping[str, Mapping[str, object]] | None = None,
    ) -> int:
        """Start a run of a workflow file; the run's id.

        `provided` names jobs that others play, with their outputs; `given` may hold the contexts `inputs` and `vars`.
        """
        with self.world.lock:
            found = self.world.repository(repository)
            run = self.runs.queue(
                found,
                workflow_text,
                provided=provided or {},
                context=context or {},
                secrets=secrets or {},
                given=given,
            )
            return run.id

    def queue_job(
        self,
        repository: str,
        labels: Sequence[str],
        steps: Sequence[str] = ("true",),
        *,
        more: Mapping[str, object] | None = None,
    ) -> int:
        """Start a run of one job `job` with these labels and bash steps; `more` adds keys to the job. The run's id."""
        job = {"runs-on": list(labels), "steps": [{"run": step} for step in steps], **(more or {})}
        return self.queue_run(repository, json.dumps({"name": "queued", "on": "push", "jobs": {"job": job}}))

    def run(self, run_id: int) -> Run:
        """The run, as it stands now."""
        with self.world.lock:
            self.runs.lapse()
            return self.runs.run(run_id)

    def job(self, run_id: int, key: str | None = None) -> Job:
        """A job of the latest attempt, by its id in the file or its name; the only one when left out. KeyError."""
        jobs = self.run(run_id).latest.jobs
        for job in jobs.values():
            if key in (job.key, job.name) or (key is None and len(jobs) == 1):
                return job
        raise KeyError(key)

    def job_log(self, run_id: int, key: str | None = None) -> str:
        """What the job has written so far."""
        job = self.job(run_id, key)
        with self.world.lock:
            return "".join(f"{line}\n" for line in job.log)

    def on_log(self, listener: Callable[[Job, str], None]) -> None:
        """Call this for each log line as it arrives (from the server's thread)."""
        self.runs.listeners.append(listener)

    def hand_over(self, run_id: int, key: str) -> None:
        """A queued job is played by somebody else: in progress until `provide`. WorkflowError out of turn."""
        with self.world.lock:
            self.runs.hand_over(self.runs.run(run_id), key)

    def provide(self, run_id: int, key: str, outputs: Mapping[str, str], *, conclusion: str = "success") -> None:
        """How a job ended that somebody else has played; jobs that need it may be queued now."""
        with self.world.lock:
            self.runs.provide(self.runs.run(run_id), key, outputs, conclusion)

    def complete_run(self, run_id: int, attempt: int | None = None, *, conclusion: str = "success") -> None:
        """End an attempt (the latest one by default), whatever its jobs are doing."""
        with self.world.lock:
            run = self.runs.run(run_id)
            self.runs.complete(run, run.latest if attempt is None else run.attempt(attempt), conclusion)

    def cancel(self, run_id: int) -> None:
        """Cancel a run as its user would."""
        with self.world.lock:
            self.runs.cancel(self.runs.run(run_id))

    def rerun(self, run_id: int, *, failed_only: bool = False) -> int:
        """Start another attempt; its number. ApiError(403) while one is running."""
        with self.world.lock:
            chosen = (lambda job: job.conclusion in rest_runs.FAILED) if failed_only else None
            return self.runs.rerun(self.runs.run(run_id), chosen).number

    def describe_run(self, run_id: int) -> dict[str, object]:
        """The run and the jobs of its latest attempt as plain data."""
        latest = self.run(run_id).latest
        jobs = [
            {
                "key": job.key,
                "name": job.name,
                "status": job.status,
                "conclusion": job.conclusion,
                "runner": None if job.runner is None else job.runner.name,
                "outputs": dict(latest.engine.job(job.key).outputs),
            }
            for job in latest.jobs.values()
        ]
        return {"attempt": latest.number, "status": latest.status, "conclusion": latest.conclusion, "jobs": jobs}

    def upload(self, run_id: int, name: str, files: Mapping[str, bytes], *, overwrite: bool = False) -> int:
        """Give a run an artifact, as a job of it would; its id. ApiError(409) when there is one of that name."""
        with self.world.lock:
            made = Artifact(
                id=self.world.next_id() + 60_000,
                run=self.runs.run(run_id),
                name=name,
                archive=packed(files),
                created_at=self.clock.now(),
            )
            self.runs.shelf.put(made, overwrite=overwrite)
            return made.id

    # ------------------------------------------------------------------ runners
    def runners(self, scope: str | None = None) -> list[RunnerRecord]:
        """Registered runners, of one scope (`owner/name` or `org`) or all."""
        with self.world.lock:
            self.runs.lapse()
            return [each for each in self.world.runners.values() if scope is None or each.scope == scope.lower()]

    @staticmethod
    def describe_runner(runner: RunnerRecord) -> dict[str, object]:
        """A runner as plain data."""
        return {
            "id": runner.id,
            "name": runner.name,
            "scope": runner.scope,
            "labels": list(runner.labels),
            "online": runner.online,
            "busy": runner.busy,
        }

    def play_runner(
        self, scope: str, name: str, labels: Sequence[str] = (), *, online: bool = True, ephemeral: bool = True
    ) -> RunnerRecord:
        """Register a runner that no process stands behind; `online` says whether its listener seems connected."""
        with self.world.lock:
            runner = self.world.add_runner(scope.lower(), name, tuple(labels), ephemeral=ephemeral)
            runner.played = online
            runner.version = self.settings.runner_version if online else None
            return runner

    def play_take(self, runner: RunnerRecord) -> Job | None:
        """Let a played runner take the job it may have."""
        with self.world.lock:
            return self.runs.assign(runner)

    def play_finish(self, runner: RunnerRecord, conclusion: str = "success") -> None:
        """Let a played runner end its job; when ephemeral it is deregistered."""
        with self.world.lock:
            if runner.job is not None:
                self.runs.finish(runner.job, conclusion)

    def play_loss(self, runner: RunnerRecord) -> None:
        """A played runner vanishes: offline at once, busy until the lock of its job has run out."""
        with self.world.lock:
            self.world.went_offline(runner)

    # ------------------------------------------------------------------ the server
    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = str(scope["path"])
        if path.startswith("/_runner/"):
            await self._serve_runner(scope, receive, send)
        elif path.startswith("/_sim/"):
            await self._serve_control(scope, receive, send)
        elif path.startswith("/actions/runner/releases/"):
            await self._serve_download(scope, receive, send)
        elif path.startswith(PLACE):
            await self._serve_artifact(scope, receive, send)
        else:
            await self._serve_rest(scope, receive, send)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[Loopback]:
        """A server on loopback while the `with` lasts; OSError when the port is taken.

        Runs queued from then on name it as their `github.server_url`.
        """
        with Loopback(self.app, port=port) as server:
            self.world.origin = server.url
            yield server

    async def _serve_rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        query = scope["query_string"].decode("latin-1")
        body = await read_body(receive)
        origin = self._origin(scope, headers)
        with self.world.lock:
            exchange = self._rest.exchange(scope["method"], scope["path"], query, headers, body, origin)
            route = self._rest.route(exchange)
        operation = "unknown" if route is None else route.operation
        fault = self.faults.take(operation, headers.get("authorization", "")[-4:])
        if await before(fault, scope, receive, send, self.clock):
            return
        status, content, more = self._rest.respond(exchange, route)
        if not await after(fault, scope, receive, send, self.clock):
            await answer(send, status, content, more)

    async def _serve_runner(self, scope: Scope, receive: Receive, send: Send) -> None:
        verb = str(scope["path"]).removeprefix("/_runner/")
        headers, body = _headers(scope), await read_body(receive)
        fault = self.faults.take(f"_runner.{verb}")
        if await before(fault, scope, receive, send, self.clock):
            return
        if is_session(scope) and await self._serve_session(headers, body, receive, send):
            return
        if verb == "workspace":
            status, content = await self._runner_api.workspace(headers)
        else:
            status, content = self._runner_api.respond(verb, headers, body, self._origin(scope, headers))
        if not await after(fault, scope, receive, send, self.clock):
            await answer(send, status, content, TEXT)

    async def _serve_session(self, headers: Mapping[str, str], body: bytes, receive: Receive, send: Send) -> bool:
        """Whether it was a session: one with a bad credential is answered like every other call."""
        with self.world.lock:
            self.runs.lapse()
            known = any(
                headers.get("authorization") == f"Bearer {each.credential}" for each in self.world.runners.values()
            )
        if known:
            await self._runner_api.session(self._runner_api.runner(headers), Lines(body), receive, send)
        return known

    async def _serve_control(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        path = str(scope["path"]).removeprefix("/_sim/")
        status, content = control.respond(self, scope["method"], path, query, await read_body(receive))
        await answer(send, status, content)

    async def _serve_download(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.take("download")
        if await before(fault, scope, receive, send, self.clock):
            return
        name = str(scope["path"]).rpartition("/")[2]
        for architecture in rest_runners.ARCHITECTURES:
            archive = runner_archive(self.settings.runner_version, architecture)
            if archive.name == name:
                if not await after(fault, scope, receive, send, self.clock):
                    await answer(send, 200, archive.content, {"content-type": "application/octet-stream"})
                return
        await answer(send, 404, "Not Found", {"content-type": "text/plain"})

    async def _serve_artifact(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.take("artifact.fetch")
        if await before(fault, scope, receive, send, self.clock):
            return
        try:
            with self.world.lock:
                content = self.runs.shelf.fetch(str(scope["path"]), self.clock.now())
        except ApiError as error:
            await answer(send, error.status, error.message, {"content-type": "text/plain"})
            return
        if not await after(fault, scope, receive, send, self.clock):
            await answer(send, 200, content, {"content-type": "application/zip"})

    def _origin(self, scope: Scope, headers: Mapping[str, str]) -> str:
        origin = f"{scope.get('scheme', 'http')}://{headers.get('host', 'github.test')}"
        self.world.origin = origin
        return origin

    def order(self, fault: Fault) -> Fault:
        """Order a failure."""
        return self.faults.add(fault)

    @property
    def now(self) -> datetime:
        """The simulator's time."""
        return self.clock.now()


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
