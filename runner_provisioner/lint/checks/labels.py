"""Whether the job gets the machine that was rented for it, and no other job does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from runner_provisioner.lint.document import Node
from runner_provisioner.lint.expressions import EXPRESSION, mentions, needed, outputs
from runner_provisioner.lint.findings import FIXED_LABEL, MATRIX_LABEL, OTHER_LABEL, Finding
from runner_provisioner.lint.model import GpuJob, Job, Repository, Workflow

_DEFAULTS: Final = frozenset({"self-hosted", "linux", "x64", "x86_64", "arm64", "gpu", "nvidia", "cuda"})


def check(workflow: Workflow, _repository: Repository) -> Iterator[Finding]:
    """All checks of labels."""
    for gpu in workflow.gpu_jobs:
        if not gpu.starts:
            yield _fixed(workflow, gpu.job)
            continue
        yield from _others(workflow, gpu)
        yield from _shared_by_legs(workflow, gpu)
    yield from _shared_by_jobs(workflow)


def _fixed(workflow: Workflow, job: Job) -> Finding:
    words = ", ".join(label.text for label in job.labels)
    return workflow.finding(
        FIXED_LABEL,
        f"job '{job.id}' asks for '{words}', which any other job can ask for too and take the machine: write 'runs-on: "
        "${{ needs.START.outputs.label }}', START being the job that starts",
        job.labels[0].line,
    )


def _others(workflow: Workflow, gpu: GpuJob) -> Iterator[Finding]:
    known = [start.labels for start in gpu.starts]
    extra = frozenset(label for labels in known for label in labels or ())
    for label in gpu.job.labels:
        text = label.text.lower()
        if EXPRESSION.search(text) or text in extra or (None in known and text not in _DEFAULTS):
            continue
        yield workflow.finding(
            OTHER_LABEL,
            f"job '{gpu.job.id}' asks for '{label.text}' beside the start's label, and the runner does not have it "
            "(it registers without default labels), so the job would wait for ever: ask for the start's label alone",
            label.line,
        )


def _shared_by_legs(workflow: Workflow, gpu: GpuJob) -> Iterator[Finding]:
    ours = next(label for label in gpu.job.labels if needed(label.text))
    start_job = workflow.jobs[gpu.starts[0].job]
    if gpu.job.has_matrix and not mentions(ours.text, "matrix", "strategy"):
        yield workflow.finding(
            MATRIX_LABEL,
            f"all legs of job '{gpu.job.id}' ask for the label of one start, whose runner takes a single job: put "
            "start, job and stop into a workflow that is called once for each leg, with its own key",
            ours.line,
        )
    elif start_job.has_matrix and not _tells_legs(start_job, ours):
        yield workflow.finding(
            MATRIX_LABEL,
            f"the legs of job '{start_job.id}' overwrite each other's label, and job '{gpu.job.id}' gets the last: put "
            "start, job and stop into a workflow that is called once for each leg, with its own key",
            ours.line,
        )


def _tells_legs(start_job: Job, label: Node) -> bool:
    values = [start_job.node.get("outputs").get(name).text for name in outputs(label.text)]
    return mentions(label.text, "matrix", "strategy") or any(mentions(value, "matrix", "strategy") for value in values)


def _shared_by_jobs(workflow: Workflow) -> Iterator[Finding]:
    taken: dict[str, Job] = {}
    for gpu in workflow.gpu_jobs:
        for label in gpu.job.labels:
            if not gpu.starts or not needed(label.text):
                continue
            first = taken.setdefault(label.text, gpu.job)
            # Two jobs with conditions may exclude each other.
            if first is not gpu.job and not (first.condition and gpu.job.condition):
                yield workflow.finding(
                    MATRIX_LABEL,
                    f"job '{gpu.job.id}' asks for the label that job '{first.id}' asks for, and its runner takes a "
                    "single job: give each a start of its own, with its own key",
                    label.line,
                )
