"""What a listener talks to: registration, its session, its job and the job's steps (the stand-in's own protocol).

Operations: _runner.register, _runner.remove, _runner.session, _runner.job, _runner.next, _runner.log, _runner.renew,
_runner.complete, _runner.workspace.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from runner_provisioner.simulators.github.entities import (
    DEFAULT_GROUP,
    ApiError,
    RunnerRecord,
    Session,
    not_found,
)
from runner_provisioner.simulators.github.lines import Lines, encode
from runner_provisioner.simulators.github.runs import Job, Runs, runner_context
from runner_provisioner.simulators.github.state import World
from runner_provisioner.simulators.github.tarball import workspace_archive
from runner_provisioner.simulators.serving import Receive, Scope, Send, answer
from runner_provisioner.simulators.workflow import StepPlan, StepResult
from runner_provisioner.simulators.workflow.steps import environment_of

DEFAULT_LABELS = ("self-hosted", "Linux", "X64")
TICK = 0.03
TEXT = {"content-type": "text/plain"}
OUTCOMES = ("success", "failure", "cancelled")

Entries = list[tuple[str, ...]]


class RunnerApi:
    """The part of the server under `/_runner/`."""

    def __init__(self, world: World, runs: Runs) -> None:
        self._world = world
        self._runs = runs
        self._finished: dict[str, str] = {}
        self._verbs: dict[str, Callable[[RunnerRecord, Lines, str], Entries]] = {
            "job": self._job,
            "next": self._next,
            "renew": self._renew,
            "complete": self._complete,
        }

    def respond(self, verb: str, headers: Mapping[str, str], body: bytes, origin: str) -> tuple[int, bytes]:
        """Everything but the session and the workspace: status and body."""
        with self._world.lock:
            self._runs.lapse()
            try:
                return 200, encode(self._do(verb, headers, body, origin))
            except ApiError as error:
                return error.status, encode([("error", error.message)])

    def _do(self, verb: str, headers: Mapping[str, str], body: bytes, origin: str) -> Entries:
        if verb in ("register", "remove"):
            token = _credential(headers, "RemoteAuth")
            message = Lines(body)
            return self._register(token, message) if verb == "register" else self._remove(token, message)
        finished = self._finished.get(headers.get("authorization", ""))
        if verb == "complete" and finished is not None:
            return [("conclusion", finished)]
        runner = self.runner(headers)
        if runner.job is not None:
            self._runs.renew(runner.job)
        if verb == "log":
            return self._log(runner, body)
        if verb not in self._verbs:
            raise not_found()
        return self._verbs[verb](runner, Lines(body), origin)

    def runner(self, headers: Mapping[str, str]) -> RunnerRecord:
        """Who is calling; 401 for a runner that is no longer registered."""
        return self._world.runner_of_credential(_credential(headers, "Bearer"))

    # ------------------------------------------------------------------ registration
    def _register(self, token: str, message: Lines) -> Entries:
        known = self._world.credentials.runner_token(token, "registration")
        scope = self._world.scope_of_url(urlsplit(message.get("url")).path)
        if scope != known.scope:
            raise not_found()
        labels = tuple(label.strip() for label in message.get("labels").split(",") if label.strip())
        if not message.flag("no_default_labels"):
            labels = (*DEFAULT_LABELS, *labels)
        if message.flag("replace"):
            self._replace(scope, message.get("name"))
        runner = self._world.add_runner(
            scope,
            message.get("name"),
            labels,
            ephemeral=message.flag("ephemeral"),
            group_id=self._group(scope, message.get("group")),
            work_folder=message.get("work"),
        )
        return [("id", str(runner.id)), ("name", runner.name), ("credential", runner.credential)]

    def _replace(self, scope: str, name: str) -> None:
        self._world.violations.append(f"runner {name} was registered with --replace")
        for runner in self._world.runners_of(scope):
            if runner.name.lower() == name.lower():
                self._world.forget(runner)

    def _group(self, scope: str, name: str) -> int:
        if "/" in scope or not name:
            return DEFAULT_GROUP
        return self._world.group_named(self._world.organisation(scope), name).id

    def _remove(self, token: str, message: Lines) -> Entries:
        known = self._world.credentials.runner_token(token, "remove")
        for runner in self._world.runners_of(known.scope):
            if runner.name == message.get("name"):
                self._world.remove_runner(runner)
                return []
        raise not_found()

    # ------------------------------------------------------------------ the session
    async def session(self, runner: RunnerRecord, message: Lines, receive: Receive, send: Send) -> None:
        """Keep the listener's connection open; its end is the moment the runner goes offline."""
        session = Session()
        with self._world.lock:
            taken = runner.session is not None and runner.session.open
            if not taken:
                runner.session = session
                runner.version = message.get("version") or self._world.settings.runner_version
                runner.work_root = message.get("work", runner.work_root)
                runner.usable_until = None
        if taken:
            await answer(send, 409, encode([("error", "A session for this runner already exists.")]), TEXT)
            return
        try:
            await self._stay(runner, session, receive, send)
        finally:
            with self._world.lock:
                session.open = False
                if runner.session is session:
                    self._world.went_offline(runner)

    async def _stay(self, runner: RunnerRecord, session: Session, receive: Receive, send: Send) -> None:
        async def until_hung_up() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue
            group.cancel_scope.cancel()

        head = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        session.tell("ready")
        async with anyio.create_task_group() as group:
            group.start_soon(until_hung_up)
            last = ""
            while last != "gone":
                last = self._news(runner, session)
                if last:
                    await send({"type": "http.response.body", "body": f"msg {last}\n".encode(), "more_body": True})
                await anyio.sleep(TICK)
            group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b""})

    def _news(self, runner: RunnerRecord, session: Session) -> str:
        with self._world.lock:
            self._runs.lapse()
            if not session.messages and self._runs.assign(runner) is not None:
                session.tell("job")
            return session.messages.popleft() if session.messages else ""

    # ------------------------------------------------------------------ the job
    def _own_job(self, runner: RunnerRecord) -> Job:
        if runner.job is None:
            raise ApiError(404, "There is no job for this runner")
        return runner.job

    def _job(self, runner: RunnerRecord, _message: Lines, origin: str) -> Entries:
        job = self._own_job(runner)
        context = runner_context(runner, job.run.repository)
        masks = [job.run.token, *job.run.secrets.values()]
        entries: Entries = [
            ("name", job.name),
            ("workspace", str(context["workspace"])),
            ("temp", str(context["temp"])),
        ]
        entries += [("env", name, value) for name, value in self._variables(job, origin).items()]
        return entries + [("mask", line) for mask in masks for line in mask.splitlines() if line.strip()]

    def _variables(self, job: Job, origin: str) -> dict[str, str]:
        runner = job.runner
        context = {} if runner is None else runner_context(runner, job.run.repository)
        github = self._runs.context(job.run, job.attempt.number)
        more = {"job": job.run.workflow.jobs[job.key].base, "workflow": job.run.workflow.name}
        return environment_of({**github, **more, "workspace": context.get("workspace")}, context) | _addresses(origin)

    def _next(self, runner: RunnerRecord, message: Lines, origin: str) -> Entries:
        job = self._own_job(runner)
        outcome = message.get("outcome")
        previous = None
        # A runner that lost the answer tells the end of a step twice; the second time it is not the one that runs.
        if outcome in OUTCOMES and message.get("number") == str(job.at_step):
            previous = StepResult(
                outcome=outcome,  # type: ignore[arg-type]
                outputs=message.pairs("output"),
                env=message.pairs("env"),
                path=tuple(message.all("path")),
            )
            job.summary += message.get("summary")
        plan = self._runs.step(job, previous)
        if plan is None:
            return [("done", "")]
        survives = job.attempt.engine.job(job.key).cancelled
        return _step(plan, origin) + ([("protected", "1")] if survives else [])

    def _log(self, runner: RunnerRecord, body: bytes) -> Entries:
        job = self._own_job(runner)
        for line in body.decode("utf-8", "replace").split("\n"):
            if line:
                self._runs.write(job, line)
        return []

    @staticmethod
    def _renew(_runner: RunnerRecord, _message: Lines, _origin: str) -> Entries:
        return []

    def _complete(self, runner: RunnerRecord, message: Lines, _origin: str) -> Entries:
        forced = {"shutdown": self._world.settings.shutdown_conclusion, "hook": "failure"}.get(message.get("result"))
        conclusion = self._runs.finish(self._own_job(runner), forced)
        self._finished[f"Bearer {runner.credential}"] = conclusion
        return [("conclusion", conclusion)]

    async def workspace(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The files for `actions/checkout`: the tree of the job's repository as a tar."""
        try:
            with self._world.lock:
                folder = self._own_job(self.runner(headers)).run.repository.workspace
        except ApiError as error:
            return error.status, encode([("error", error.message)])
        if folder is None:
            return 404, encode([("error", "The simulated repository has no files: it was added without a folder")])
        return 200, await anyio.to_thread.run_sync(workspace_archive, folder)


def _addresses(origin: str) -> dict[str, str]:
    return {"GITHUB_SERVER_URL": origin, "GITHUB_API_URL": origin, "GITHUB_GRAPHQL_URL": f"{origin}/graphql"}


def _step(plan: StepPlan, origin: str) -> Entries:
    seconds = "" if plan.timeout_minutes is None else str(max(1, round(plan.timeout_minutes * 60)))
    entries: Entries = [
        ("step", str(plan.number)),
        ("name", plan.name),
        ("kind", plan.kind),
        ("script", plan.script),
        ("directory", plan.working_directory or ""),
        ("timeout", seconds),
    ]
    entries += [("shell", word) for word in shlex.split(plan.shell)]
    entries += [("path", folder) for folder in plan.path]
    return entries + [("env", name, value) for name, value in {**plan.env, **_addresses(origin)}.items()]


def _credential(headers: Mapping[str, str], scheme: str) -> str:
    found, _, value = headers.get("authorization", "").partition(" ")
    if found.lower() != scheme.lower() or not value:
        raise ApiError(401, "Bad credentials")
    return value.strip()


def is_session(scope: Scope) -> bool:
    """Whether a request opens a listener's session."""
    return str(scope["path"]) == "/_runner/session"
