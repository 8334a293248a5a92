"""Workflow files, evaluated as GitHub does; pure, without input or output."""

from runner_provisioner.simulators.workflow.engine import RunEngine
from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.loading import load_workflow
from runner_provisioner.simulators.workflow.model import JobSpec, StepSpec, Workflow
from runner_provisioner.simulators.workflow.plan import JobProgress, StepPlan, StepProgress, StepResult

__all__ = [
    "JobProgress",
    "JobSpec",
    "RunEngine",
    "StepPlan",
    "StepProgress",
    "StepResult",
    "StepSpec",
    "Workflow",
    "WorkflowError",
    "load_workflow",
]
