"""From the text of a file to a workflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from runner_provisioner.lint.calls import calls_of_step, calls_of_workflow
from runner_provisioner.lint.document import NOTHING, MalformedYaml, Node, read_document
from runner_provisioner.lint.expressions import EXPRESSION, needed, outputs, steps
from runner_provisioner.lint.findings import NO_WORKFLOW, YAML, Finding
from runner_provisioner.lint.model import Call, GpuJob, Job, Mode, Repository, Step, Workflow

_HOSTED = re.compile(r"(?:ubuntu|windows|macos)-.*", re.IGNORECASE)
_LOCAL: Final = ("./.github/workflows/", "$/.github/workflows/")  # the second since runner 2.336 (GitHub changelog)


def read_repository(files: Mapping[str, str], context: Mapping[str, str]) -> tuple[Repository, list[Finding]]:
    """All workflows, and findings for the `files` that are none; what is broken in `context` is passed over."""
    findings: list[Finding] = []
    found: dict[str, Workflow] = {}
    for file, text in {**context, **files}.items():
        one = read_workflow(file, text)
        if isinstance(one, Workflow):
            found[file] = one
        elif file in files:
            findings.append(one)
    named = {file.replace("\\", "/").rsplit("/", 1)[-1]: one for file, one in found.items()}
    linked = tuple(_with_called(one, named) for one in found.values())
    unused = Repository(workflows=linked, checked=frozenset(files))
    workflows = tuple(replace(one, gpu_jobs=_gpu_jobs(one, unused.extra_labels)) for one in linked)
    return replace(unused, workflows=workflows), findings


def read_workflow(file: str, text: str) -> Workflow | Finding:
    """The workflow, its GPU jobs not yet found; a finding when it is none."""
    try:
        node = read_document(text)
    except MalformedYaml as error:
        message = f"this is no YAML that GitHub would read: {error}: correct it"
        return Finding(check=YAML, message=message, file=file, line=max(error.line, 1))
    if not node.get("jobs").entries:
        message = "there are no jobs: give this command the files of .github/workflows"
        return Finding(check=NO_WORKFLOW, message=message, file=file, line=max(node.line, 1))
    jobs = {name: _job(name, job, node) for name, job in node.get("jobs").entries.items()}
    return Workflow(file=file, node=node, triggers=_triggers(node.get("on")), jobs=MappingProxyType(jobs), gpu_jobs=())


def _triggers(node: Node) -> Mapping[str, Node]:
    return node.entries or MappingProxyType({one.text: one for one in node.texts})


def _job(name: str, node: Node, workflow: Node) -> Job:
    found = tuple(Step(index=index, node=one) for index, one in enumerate(node.get("steps").items))
    calls = list(calls_of_workflow(node, name))
    for step in found:
        calls.extend(calls_of_step(step, name, _variables(workflow, node, step.node)))
    return Job(id=name, node=node, steps=found, calls=tuple(calls))


def _variables(*nodes: Node) -> dict[str, str]:
    return {name: value.text for node in nodes for name, value in node.get("env").entries.items()}


def _with_called(workflow: Workflow, named: Mapping[str, Workflow]) -> Workflow:
    """The workflow, its jobs having the calls of the local workflows that they use."""
    jobs = {
        name: replace(job, calls=(*job.calls, *_called(job, named))) if not job.calls else job
        for name, job in workflow.jobs.items()
    }
    return replace(workflow, jobs=MappingProxyType(jobs))


def _called(job: Job, named: Mapping[str, Workflow]) -> Iterator[Call]:
    uses = job.node.get("uses")
    if not uses.text.startswith(_LOCAL):
        return
    called = named.get(uses.text.rpartition("/")[2])
    if called is None:
        return
    # A workflow that starts also settles its start, and one that has the GPU job too is whole: it is checked by itself.
    starts = list(called.calls(Mode.START))
    is_whole = any(job_of_label(one, called) for one in called.jobs.values())
    for call in starts or called.calls(Mode.STOP, Mode.CLEANUP):
        mode = Mode.GPU_JOB if call.mode is Mode.START and is_whole else call.mode
        key = None if EXPRESSION.search(call.key or "${{}}") else call.key
        yield Call(mode=mode, job=job.id, line=uses.line, key=key, labels=call.labels, options=None, lifetime=None)


def job_of_label(job: Job, workflow: Workflow) -> list[Job]:
    """The start jobs whose output a job has in its `runs-on`."""
    names = [name for label in job.labels for name in needed(label.text)]
    jobs = [workflow.jobs[name] for name in dict.fromkeys(names) if name in workflow.jobs]
    return [one for one in jobs if any(call.mode is Mode.START for call in one.calls)]


def _gpu_jobs(workflow: Workflow, extra_labels: frozenset[str]) -> tuple[GpuJob, ...]:
    by_label = {job.id: starts for job in workflow.jobs.values() if (starts := _starts_of(job, workflow))}
    used = {start.job for starts in by_label.values() for start in starts}
    found = []
    for job in workflow.jobs.values():
        if job.id in by_label:
            found.append(GpuJob(job=job, starts=by_label[job.id]))
        elif _is_fixed(job, extra_labels) or _follows_unused(job, workflow, used):
            found.append(GpuJob(job=job, starts=()))
    return tuple(found)


def _starts_of(job: Job, workflow: Workflow) -> tuple[Call, ...]:
    """The starts whose label a job waits for: one, where the start job's outputs tell which."""
    found: list[Call] = []
    for start_job in job_of_label(job, workflow):
        taken = [name for label in job.labels for name in outputs(label.text)]
        values = [start_job.node.get("outputs").get(name) for name in taken]
        ids = {one for value in values if value is not NOTHING for one in steps(value.text)}
        starts = [call for call in start_job.calls if call.mode is Mode.START]
        found += [call for call in starts if call.step and call.step.id in ids] or starts
    return tuple(found)


def _is_fixed(job: Job, extra_labels: frozenset[str]) -> bool:
    labels = [label.text.lower() for label in job.labels]
    return any(label.startswith("rp-") or label in extra_labels for label in labels)


def _follows_unused(job: Job, workflow: Workflow, used: set[str]) -> bool:
    """Whether a job comes after a start that no job waits for, and asks for a self-hosted runner by a word."""
    labels = [label.text for label in job.labels]
    if not labels or job.calls or any(_HOSTED.fullmatch(label) or EXPRESSION.search(label) for label in labels):
        return False
    starts = {call.job for call in workflow.calls(Mode.START)}
    return any(need in starts and need not in used for need in job.needs)
