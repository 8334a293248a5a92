"""The one way a workflow file can be wrong."""

from __future__ import annotations


class WorkflowError(Exception):
    """A workflow, or something in it, that cannot be played; the message names the job and the step."""

    def __init__(self, problem: str, *, job: str | None = None, step: str | None = None) -> None:
        """Say what is wrong and, when known, where."""
        places = [f"job '{job}'" if job else "", f"step '{step}'" if step else ""]
        self.problem = problem
        self.job = job
        self.step = step
        super().__init__(": ".join([*filter(None, [", ".join(filter(None, places))]), problem]))

    def at(self, *, job: str | None = None, step: str | None = None) -> WorkflowError:
        """The same problem, with its place filled in."""
        return WorkflowError(self.problem, job=self.job or job, step=self.step or step)
