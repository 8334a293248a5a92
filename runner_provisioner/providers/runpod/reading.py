"""How a GraphQL answer is taken apart, and what of a request may be logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.wire import WirePod, parse

if TYPE_CHECKING:
    from runner_provisioner._http import Answer


def loggable(variables: Mapping[str, object]) -> dict[str, object]:
    """What may be logged of the variables: of the environment only names, of the start command only its length."""
    given = variables.get("input")
    if not isinstance(given, dict):
        return dict(variables)
    shown: dict[str, object] = dict(given)
    if "env" in shown:
        shown["env"] = [pair["key"] for pair in given["env"]]
    if "dockerArgs" in shown:
        shown["dockerArgs"] = f"{len(given['dockerArgs'])} characters"
    return {**variables, "input": shown}


def data_of(answer: Answer) -> dict[str, Any] | None:
    """What a GraphQL answer holds beside its complaints."""
    try:
        body = answer.json()
    except ProtocolViolation:
        return None
    data = body.get("data") if isinstance(body, dict) else None
    return data if isinstance(data, dict) else None


def holds(answer: Answer, root: str) -> bool:
    """Whether an answer names a pod under `root`, whatever it complains about."""
    pod = (data_of(answer) or {}).get(root)
    return isinstance(pod, dict) and bool(pod.get("id"))


def one(data: Mapping[str, Any], operation: str, *, alias: str | None = None) -> WirePod | None:
    """The pod under the operation's own name or an alias; None = there is none. Left out altogether is malformed."""
    name = alias or operation
    if name not in data:
        raise malformed(operation, "it leaves out what was asked for")
    return None if data[name] is None else parse(WirePod, data[name], operation)


def malformed(operation: str, what: str) -> ProtocolViolation:
    """The error of an answer that is not as documented."""
    message = f"RunPod's answer to {operation} is not as documented ({what}): try again later"
    return ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")
