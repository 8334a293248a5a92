"""What went wrong, in the words of whoever asked: markets and rules speak of command line options, callers have fields.

The rest of the program names what a user can change as the command line does. Each contract has its own name for that,
or none; what only the operator of the service can change is named by its variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from runner_provisioner.domain.served import Contract
from runner_provisioner.errors import RunnerProvisionerError

_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")

# Whole pieces of advice that no other name would make true; the first that fits counts.
_ADVICE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(before), after)
    for before, after in (
        (r"name more GPU models with --gpu\b", "take another --gpu"),
        (r"give --gpu at least once, or --min-vram\b", "give --gpu"),
        (r"loosen --interruptible never, ", ""),
        (r" or --interruptible never\b", ""),
        (r"--region( is)? ([A-Za-z]{2})(?![\w-])", r"--country\1 \2"),
        (r", and --interruptible is (never|require)\b", ", which was not asked for"),
        (r": use --interruptible prefer or never\b", ""),
        (r"--budget-(?:day|month) \((RUNNER_PROVISIONER_[A-Z_]+)\)", r"\1"),
        (r",? or (?:give|start once with) --budget advisory(?: to every start|; they begin with it)?", ""),
        (r"\(a workflow keeps them with state-cache: true\)", ""),
        (r", give start a --max-cost\b", ""),
        (r": take its key away, rent with --provider from the others\b", ""),
        (r": say which with --provider\b", ": end it there"),
        (r"look again with 'pods list' before another try", "list the pods before another try"),
        (r"'pods list' shows those that exist", "the list of pods shows those that exist"),
        (r": end it with 'pods terminate'", ": end it instead"),
        (r" 'gpu-types' lists all\b", ""),
        (r": 'logs' reads those of a runner's pod by SSH", ": read them in the pod, by SSH"),
    )
)
_OPERATORS: Mapping[str, str] = {
    "budget-day": "RUNNER_PROVISIONER_BUDGET_DAY",
    "budget-month": "RUNNER_PROVISIONER_BUDGET_MONTH",
}
FIELDS: Mapping[Contract, Mapping[str, str]] = {
    Contract.CLOUD: {
        "cloud": "cloud_type",
        "disk": "container_disk_in_gb",
        "env": "env",
        "docker-args": "docker_args",
        "gpu": "gpu_type_id",
        "gpu-count": "gpu_count",
        "image": "image_name",
        "lifetime": "lifetime_hours",
        "max-price": "max_price",
        "min-memory": "min_memory_in_gb",
        "min-vcpus": "min_vcpu_count",
        "provider": "provider",
        "volume": "volume_in_gb",
    },
    Contract.MACHINES: {
        "gpu": "executor_id",
        "gpu-count": "gpu_count",
        "image": "template_id",
        "template": "template_id",
        "lifetime": "lifetime_hours",
        "max-price": "max_price",
        "provider": "executor_id",
    },
    Contract.PODS: {
        "cloud": "pod.security",
        "cloud-id": "pod.cloudId",
        "country": "pod.country",
        "disk": "pod.diskSize",
        "docker-args": "pod.customTemplateId",
        "env": "pod.envVars",
        "gpu": "pod.gpuType",
        "gpu-count": "pod.gpuCount",
        "image": "pod.image",
        "lifetime": "pod.lifetimeHours",
        "max-price": "pod.maxPrice",
        "min-memory": "pod.memory",
        "min-vcpus": "pod.vcpus",
        "network-volume": "disks",
        "provider": "provider.type",
        "region": "pod.dataCenterId",
        "socket": "pod.socket",
        "team": "team.teamId",
        "template": "pod.customTemplateId",
    },
}
"""By contract: what the field of an option is called."""


def place_of(contract: Contract | None, error: RunnerProvisionerError) -> tuple[str, ...]:
    """The field of the body that an error is about: what it says itself, else the first option in its message.

    The body as a whole where neither is a field of the contract.
    """
    options = [error.about, *_OPTION.findall(str(error))]
    fields = FIELDS[contract] if contract is not None else {}
    field = next((fields[one] for one in options if one in fields), None)
    return ("body", *field.partition(" ")[0].split(".")) if field is not None else ("body",)


def in_words_of(contract: Contract | None, message: str) -> str:
    """The message without any option of the command line; what a contract has no field for is called by its name."""
    fields = {**_OPERATORS, **FIELDS.get(contract, {})} if contract is not None else _OPERATORS
    for before, after in _ADVICE:
        message = before.sub(after, message)
    return _OPTION.sub(lambda found: fields.get(found[1], found[1].replace("-", " ")), message)
