"""Whether what a job hands to a start gets there, and goes no further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from runner_provisioner.lint.document import Node
from runner_provisioner.lint.expressions import secrets
from runner_provisioner.lint.findings import CALL_ENVIRONMENT, GPU_SECRETS, Finding
from runner_provisioner.lint.model import MARKETS, RENTING, Job, Mode, Repository, Workflow

_INHERITED: Final = "inherit"
# One is enough: every provider whose key arrives takes part.
_PROVIDERS: Final = tuple(names[0] for names in MARKETS.values())
_GITHUB: Final = ("GPU_APP_PRIVATE_KEY", "GPU_GITHUB_TOKEN")
# Inputs whose text goes to the machine, and is stored by the provider.
_ON_THE_MACHINE: Final = ("env", "run")


def check(workflow: Workflow, _repository: Repository) -> Iterator[Finding]:
    """All checks of what is handed over."""
    for job in workflow.jobs.values():
        modes = {call.mode for call in job.calls}
        if Mode.GPU_JOB in modes and job.node.get("uses").given:
            yield from _environment(workflow, job)
            yield from _secrets(workflow, job.node.get("with"))
        for call in job.calls:
            if call.mode in RENTING and call.step is not None:
                yield from _secrets(workflow, call.step.node.get("with"))


def _environment(workflow: Workflow, job: Job) -> Iterator[Finding]:
    if job.node.get("environment").given:
        yield workflow.finding(
            CALL_ENVIRONMENT,
            f"GitHub refuses an environment on job '{job.id}', which calls a workflow: give it under 'with', as the "
            "input environment",
            job.node.get("environment").line,
        )
        return
    inputs, handed = job.node.get("with"), job.node.get("secrets")
    named = next((inputs.get(one) for one in ("environment", "stop-environment") if inputs.get(one).text), None)
    if named is None or handed.text == _INHERITED:
        return
    needed = (_PROVIDERS, _GITHUB)
    missing = [names[0] for names in needed if not any(handed.get(name).given for name in names)]
    if missing:
        yield workflow.finding(
            CALL_ENVIRONMENT,
            f"an environment's secret reaches the called workflow only when job '{job.id}' hands over one of the "
            f"name, be it empty: name {' and '.join(missing)} under 'secrets'",
            named.line,
        )


def _secrets(workflow: Workflow, inputs: Node) -> Iterator[Finding]:
    for name in _ON_THE_MACHINE:
        taken = secrets(inputs.get(name).text)
        if taken:
            yield workflow.finding(
                GPU_SECRETS,
                f"the input {name} takes {', '.join(dict.fromkeys(taken))} to a rented machine, and the provider "
                "stores it: use the secret in a job on a hosted runner, or make it one that may be lost",
                inputs.get(name).line,
            )
