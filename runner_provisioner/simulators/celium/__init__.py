"""Lium (formerly Celium) as a loopback server: executors, templates, pods behind an unquoted shell, events, a bill.

Usage: `CeliumSimulator(clock)` in process, `with simulator.serve() as server: server.url + "/api"` for others.
"""

from runner_provisioner.simulators.celium import rows, texts
from runner_provisioner.simulators.celium.catalog import Executor, Market, executor_id
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.settings import Envelope, Progress, RentAnswer, Settings
from runner_provisioner.simulators.celium.simulator import CeliumSimulator

__all__ = [
    "CeliumPod",
    "CeliumSimulator",
    "Envelope",
    "Executor",
    "Market",
    "Progress",
    "RentAnswer",
    "Settings",
    "executor_id",
    "rows",
    "texts",
]
