"""REST v2: which call is which, and who answers it (docs.runpod.io/api-reference-v2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner_provisioner.simulators.runpod.rest_account import RestAccount
from runner_provisioner.simulators.runpod.rest_call import Problem, RestCall, RestReply, problem
from runner_provisioner.simulators.runpod.rest_catalog import RestCatalog
from runner_provisioner.simulators.runpod.rest_limits import Limits
from runner_provisioner.simulators.runpod.rest_pods import RestPods
from runner_provisioner.simulators.runpod.rest_rows import RestRows
from runner_provisioner.simulators.runpod.rest_streams import Streams
from runner_provisioner.simulators.runpod.texts import HttpRefused

if TYPE_CHECKING:
    from runner_provisioner.simulators.runpod.resolvers import Resolvers
    from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
    from runner_provisioner.simulators.runpod.views import Views

LOGS = "rest.logs"
_ID = r"([^/]+)"
_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", r"/v2/pods", "rest.list"),
    ("POST", r"/v2/pods", "rest.create"),
    ("GET", rf"/v2/pods/{_ID}", "rest.get"),
    ("PATCH", rf"/v2/pods/{_ID}", "rest.update"),
    ("DELETE", rf"/v2/pods/{_ID}", "rest.delete"),
    ("POST", rf"/v2/pods/{_ID}/action", "rest.action"),
    ("GET", rf"/v2/pods/{_ID}/logs", LOGS),
    ("GET", r"/v2/account/ssh-keys", "rest.ssh_keys"),
    ("PUT", r"/v2/account/ssh-keys", "rest.replace_ssh_keys"),
    ("GET", r"/v2/catalog/gpus", "rest.gpus"),
    ("GET", rf"/v2/catalog/gpus/{_ID}", "rest.gpu"),
    ("GET", r"/v2/catalog/datacenters", "rest.data_centers"),
    ("GET", r"/v2/catalog/cpus", "rest.cpus"),
    ("GET", r"/v2/catalog/templates", "rest.public_templates"),
    ("GET", r"/v2/templates", "rest.templates"),
    ("POST", r"/v2/templates", "rest.create_template"),
    ("GET", rf"/v2/templates/{_ID}", "rest.template"),
    ("PATCH", rf"/v2/templates/{_ID}", "rest.update_template"),
    ("DELETE", rf"/v2/templates/{_ID}", "rest.delete_template"),
    ("GET", r"/v2/network-volumes", "rest.volumes"),
    ("POST", r"/v2/network-volumes", "rest.create_volume"),
    ("GET", rf"/v2/network-volumes/{_ID}", "rest.volume"),
    ("PATCH", rf"/v2/network-volumes/{_ID}", "rest.update_volume"),
    ("DELETE", rf"/v2/network-volumes/{_ID}", "rest.delete_volume"),
    ("GET", r"/v2/registries", "rest.registries"),
    ("POST", r"/v2/registries", "rest.create_registry"),
    ("DELETE", rf"/v2/registries/{_ID}", "rest.delete_registry"),
    ("GET", r"/v2/billing", "rest.bill"),
    ("GET", r"/v2/billing/pods", "rest.pod_bills"),
)


def operation(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The name of the call (as in `rest.get`) and what the path names; None when there is no such call."""
    for wanted, pattern, name in _ROUTES:
        found = re.fullmatch(pattern, path.rstrip("/"))
        if wanted == method and found:
            return name, found.groups()
    return None


def known(path: str) -> bool:
    """Whether another method would be answered."""
    return any(re.fullmatch(pattern, path.rstrip("/")) for _, pattern, _ in _ROUTES)


class Rest:
    """Answers under the simulator's lock."""

    def __init__(self, simulator: RunPodSimulator, resolvers: Resolvers, views: Views) -> None:
        fleet, settings = simulator.fleet, simulator.settings
        pods = RestPods(fleet, resolvers, RestRows(views, settings))
        account = RestAccount(fleet, simulator.shelf)
        catalog = RestCatalog(simulator.market)
        self.limits = Limits(settings, simulator.clock.monotonic)
        self.streams = Streams(fleet, simulator, simulator.clock.now)
        self._acts: dict[str, Callable[[RestCall], RestReply]] = {
            "rest.list": pods.list,
            "rest.create": pods.create,
            "rest.get": pods.get,
            "rest.update": pods.update,
            "rest.delete": pods.delete,
            "rest.action": pods.act,
            "rest.ssh_keys": account.ssh_keys,
            "rest.replace_ssh_keys": account.replace_ssh_keys,
            "rest.gpus": catalog.gpus,
            "rest.gpu": catalog.gpu,
            "rest.data_centers": catalog.data_centers,
            "rest.cpus": catalog.cpus,
            "rest.public_templates": catalog.templates,
            "rest.templates": account.templates,
            "rest.create_template": account.create_template,
            "rest.template": account.template,
            "rest.update_template": account.update_template,
            "rest.delete_template": account.delete_template,
            "rest.volumes": account.volumes,
            "rest.create_volume": account.create_volume,
            "rest.volume": account.volume,
            "rest.update_volume": account.update_volume,
            "rest.delete_volume": account.delete_volume,
            "rest.registries": account.registries,
            "rest.create_registry": account.create_registry,
            "rest.delete_registry": account.delete_registry,
            "rest.bill": account.bill,
            "rest.pod_bills": account.pod_bills,
        }

    def answer(self, name: str, call: RestCall) -> RestReply:
        """Do the call; refusals are problem documents. Nothing but the catalogue answers without a credential."""
        exceeded = None if call.caller.anonymous else self.limits.take()
        if exceeded is not None:
            return too_many(exceeded[0])
        try:
            return self._acts[name](call)
        except Problem as error:
            return error.reply
        except HttpRefused as error:
            return problem(error.status, refusal(call, error))


def refusal(call: RestCall, error: HttpRefused) -> str:
    """What is said to who may not."""
    return "missing bearer token" if call.caller.anonymous and error.status == 401 else error.message  # noqa: PLR2004


def too_many(window: str) -> RestReply:
    """The refusal of a request too many."""
    return problem(429, f"rate limit exceeded for the {window} window")
