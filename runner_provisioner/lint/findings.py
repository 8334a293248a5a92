"""What the workflow check can find, and how a finding is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """`ERROR`: it breaks, or it bills on. `WARNING`: it can, one day."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked for."""

    id: str
    severity: Severity
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a check failed; `message` is one line that ends with the remedy, `line` counts from 1."""

    check: Check
    message: str
    file: str
    line: int

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.check.severity

    def __str__(self) -> str:
        """As compilers say it: file, line, severity, message, id."""
        return f"{self.file}:{self.line}: {self.severity}: {self.message} [{self.check.id}]"

    @property
    def annotation(self) -> str:
        """As a workflow command. Source: GitHub docs, workflow commands, and the runner's own escaping."""
        place = f"file={_property(self.file)},line={self.line},title={_property(self.check.id)}"
        return f"::{self.severity} {place}::{_data(self.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _error(name: str, title: str) -> Check:
    return Check(id=name, severity=Severity.ERROR, title=title)


def _warning(name: str, title: str) -> Check:
    return Check(id=name, severity=Severity.WARNING, title=title)


YAML: Final = _error("yaml", "the file is no YAML that GitHub would read")
NO_WORKFLOW: Final = _error("no-workflow", "the file is no workflow")

CONTAINER: Final = _error("container", "`container:` on a GPU job")
SERVICES: Final = _error("services", "`services:` on a GPU job")
DOCKER_ACTION: Final = _error("docker-action", "an action that needs Docker in a GPU job")
DOCKER_COMMAND: Final = _warning("docker-command", "the `docker` command in a GPU job")
NO_TIMEOUT: Final = _error("no-timeout", "a GPU job without `timeout-minutes`")
SHORT_LIFETIME: Final = _warning("short-lifetime", "a GPU job that may run for longer than its machine lives")
GPU_ENVIRONMENT: Final = _error("gpu-environment", "an `environment` on a GPU job")
GPU_SECRETS: Final = _warning("gpu-secrets", "secrets in a GPU job")

CALL_ENVIRONMENT: Final = _error("call-environment", "an environment whose secrets do not reach `gpu-job.yml`")

NO_STOP: Final = _error("no-stop", "a start that nothing stops")
STOP_NOT_ALWAYS: Final = _error("stop-not-always", "a stop that is skipped when something failed or was cancelled")
STOP_TOO_EARLY: Final = _error("stop-too-early", "a stop that does not wait for the start or the GPU job")
STOP_KEY: Final = _error("stop-key", "a stop whose key no start has")
STOP_SWALLOWED: Final = _error("stop-swallowed", "a stop whose failure nobody sees")
STOP_ENVIRONMENT: Final = _error("stop-environment", "the start's `environment` used again for its stop")
STOP_PROVIDER: Final = _error("stop-provider", "a stop without the key of a provider that its start may rent from")

SAME_KEY: Final = _error("same-key", "two starts with one key")
MATRIX_KEY: Final = _error("matrix-key", "a start in a matrix with one key for all legs")
KEY_VARIES: Final = _error("key-varies", "a key that is another one in the stop's job or in a re-run")
BAD_KEY: Final = _error("bad-key", "a key that start refuses")

FIXED_LABEL: Final = _error("fixed-label", "a label that other jobs can ask for as well")
OTHER_LABEL: Final = _error("other-label", "a label beside ours that the runner does not have")
MATRIX_LABEL: Final = _error("matrix-label", "legs of a matrix, or several jobs, that share one start's label")

STEP_TIMEOUT: Final = _error("step-timeout", "`timeout-minutes` on a step that uses the action")
NO_EXEC: Final = _warning("no-exec", "a start that does not hear of a cancellation")
PULL_REQUEST_TARGET: Final = _error("pull-request-target", "a start on `pull_request_target`")
STRANGER_TRIGGER: Final = _warning("stranger-trigger", "a start on an event that strangers can shape")
NO_CLEANUP: Final = _warning("no-cleanup", "no scheduled clean-up in the repository")
CLEANUP_ENVIRONMENT: Final = _warning(
    "cleanup-environment", "a scheduled clean-up without an environment, where stops have one"
)
CLEANUP_PROVIDER: Final = _warning(
    "cleanup-provider", "a scheduled clean-up without the key of a provider that something here may rent from"
)
RERUN_FAILED: Final = _warning("rerun-failed", "a re-run of a failed GPU job that waits for a runner that is gone")

CHECKS: Final = (
    YAML,
    NO_WORKFLOW,
    CONTAINER,
    SERVICES,
    DOCKER_ACTION,
    DOCKER_COMMAND,
    NO_TIMEOUT,
    SHORT_LIFETIME,
    GPU_ENVIRONMENT,
    GPU_SECRETS,
    CALL_ENVIRONMENT,
    NO_STOP,
    STOP_NOT_ALWAYS,
    STOP_TOO_EARLY,
    STOP_KEY,
    STOP_SWALLOWED,
    STOP_ENVIRONMENT,
    STOP_PROVIDER,
    SAME_KEY,
    MATRIX_KEY,
    KEY_VARIES,
    BAD_KEY,
    FIXED_LABEL,
    OTHER_LABEL,
    MATRIX_LABEL,
    STEP_TIMEOUT,
    NO_EXEC,
    PULL_REQUEST_TARGET,
    STRANGER_TRIGGER,
    NO_CLEANUP,
    CLEANUP_ENVIRONMENT,
    CLEANUP_PROVIDER,
    RERUN_FAILED,
)
