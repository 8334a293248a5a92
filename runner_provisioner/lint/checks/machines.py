"""What a job on a rented machine must not have, and what it must."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from runner_provisioner.domain.durations import parse_duration, show_duration
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.lint.document import Node
from runner_provisioner.lint.expressions import secrets
from runner_provisioner.lint.findings import (
    CONTAINER,
    DOCKER_ACTION,
    DOCKER_COMMAND,
    GPU_ENVIRONMENT,
    GPU_SECRETS,
    NO_TIMEOUT,
    SERVICES,
    SHORT_LIFETIME,
    Finding,
)
from runner_provisioner.lint.model import Call, Job, Mode, Repository, Step, Workflow

# Actions whose action.yml says `using: docker`, or that run docker themselves.
_DOCKER_ACTION = re.compile(
    r"docker://.*|docker/.*|(?:super-linter|github)/super-linter(?:/.*)?@.*|hadolint/hadolint-action@.*|"
    r"pypa/gh-action-pypi-publish@.*|jidicula/clang-format-action@.*|addnab/docker-run-action@.*",
    re.IGNORECASE,
)
_DOCKER_COMMAND = re.compile(
    r"^\s*(?:sudo\s+)?(?:docker\s+(?:run|build|buildx|compose|pull|push|login|exec|load|ps)|docker-compose)\b",
    re.MULTILINE,
)
_LONGEST_TEXT: Final = 20
# The default of timeout-minutes in gpu-job.yml.
WHOLE_JOB_MINUTES: Final = "60"


def check(workflow: Workflow, _repository: Repository) -> Iterator[Finding]:
    """All checks of GPU jobs."""
    for gpu in workflow.gpu_jobs:
        yield from _docker(workflow, gpu.job)
        yield from _limits(workflow, gpu.job)
        timeout = gpu.job.node.get("timeout-minutes")
        yield from _lifetime(workflow, timeout.text, timeout.line, gpu.starts)
        yield from _secrets(workflow, gpu.job)
    for call in workflow.calls(Mode.GPU_JOB):
        timeout = workflow.jobs[call.job].node.get("with").get("timeout-minutes")
        yield from _lifetime(workflow, timeout.text or WHOLE_JOB_MINUTES, timeout.line or call.line, [call])


def _docker(workflow: Workflow, job: Job) -> Iterator[Finding]:
    container, services = job.node.get("container"), job.node.get("services")
    if container.given:
        yield workflow.finding(
            CONTAINER,
            f"job '{job.id}' has a container, and a pod has no Docker: give the image to start (image) instead",
            container.line,
        )
    if services.given:
        yield workflow.finding(
            SERVICES,
            f"job '{job.id}' has services, and a pod has no Docker: start them in a step, or run them in another job",
            services.line,
        )
    for step in job.steps:
        yield from _docker_step(workflow, job, step)


def _docker_step(workflow: Workflow, job: Job, step: Step) -> Iterator[Finding]:
    uses, script = step.node.get("uses"), step.node.get("run")
    if _DOCKER_ACTION.fullmatch(uses.text):
        yield workflow.finding(
            DOCKER_ACTION,
            f"{uses.text} in job '{job.id}' needs Docker, and a pod has none: do it in a job on a hosted runner",
            uses.line,
        )
    if _DOCKER_COMMAND.search(script.text):
        yield workflow.finding(
            DOCKER_COMMAND,
            f"a step of job '{job.id}' calls docker, and a pod has none: do it in a job on a hosted runner",
            script.line,
        )


def _limits(workflow: Workflow, job: Job) -> Iterator[Finding]:
    if not job.node.get("timeout-minutes").given:
        yield workflow.finding(
            NO_TIMEOUT,
            f"job '{job.id}' runs on a rented machine and has no timeout-minutes: a job that hangs bills for hours; "
            "set timeout-minutes",
            job.line,
        )
    if job.environment.given:
        yield workflow.finding(
            GPU_ENVIRONMENT,
            f"job '{job.id}' has the environment '{job.environment.text}': while it waits for reviewers the machine "
            "bills, and its secrets would go to a rented machine; move the environment to the start job",
            job.environment.line,
        )


def _lifetime(workflow: Workflow, minutes: str, line: int, starts: Sequence[Call]) -> Iterator[Finding]:
    # A lifetime begins when the machine is rented, so it is over first when both are the same.
    allowed = _duration(f"{minutes}m")
    lives = [life for start in starts if (life := _lifetime_of(start)) is not None]
    if allowed is None or not lives or allowed < min(lives):
        return
    yield workflow.finding(
        SHORT_LIFETIME,
        f"the job may take {show_duration(allowed)} and its machine is ended {show_duration(min(lives))} after it was "
        "rented: give the start a longer lifetime, or the job a shorter timeout-minutes",
        line,
    )


def _lifetime_of(start: Call) -> timedelta | None:
    return StartRequest().lifetime if start.lifetime == "" else _duration(start.lifetime or "")


def _duration(text: str) -> timedelta | None:
    """None for what cannot be known, or is no duration."""
    try:
        return parse_duration(text) if len(text) <= _LONGEST_TEXT else None
    except InvalidRequest:
        return None


def _secrets(workflow: Workflow, job: Job) -> Iterator[Finding]:
    places = [leaf for node in (workflow.node.get("env"), job.node) for leaf in _secret_leaves(node)]
    if not places:
        return
    names = ", ".join(dict.fromkeys(name for leaf in places for name in secrets(leaf.text)))
    yield workflow.finding(
        GPU_SECRETS,
        f"job '{job.id}' gets {names} on a rented machine: use the secret in a job on a hosted runner, or make it one "
        "that may be lost",
        places[0].line,
    )


def _secret_leaves(node: Node) -> Iterator[Node]:
    return (leaf for leaf in node.leaves() if secrets(leaf.text))
