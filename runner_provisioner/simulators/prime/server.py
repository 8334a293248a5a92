"""The simulated Prime Intellect on the wire: credentials, envelopes, slashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner_provisioner.simulators.market.rest import Answer, Asked, RestService
from runner_provisioner.simulators.prime.api import Api
from runner_provisioner.simulators.prime.control import Control

if TYPE_CHECKING:
    from runner_provisioner.simulators.prime.simulator import PrimeSimulator


class Service(RestService):
    """The ASGI application."""

    def __init__(self, simulator: PrimeSimulator, api: Api) -> None:
        super().__init__(simulator, Control(simulator), api.routes())
        self._api = api

    def credential(self, headers: Mapping[str, str]) -> str:
        """`Authorization: Bearer KEY`."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def admit(self, asked: Asked, method: str, key: str) -> None:  # noqa: ARG002 - other markets look at what is asked
        """Raise Refusal for a key that may not do this."""
        self._api.admit(key, method)

    def unknown(self, path: str, *, other_method: bool) -> Answer:  # noqa: ARG002 - the texts are FastAPI's
        """Nothing answers there, or not to this method."""
        if other_method:
            return Answer({"detail": "Method Not Allowed"}, 405)
        return Answer({"detail": "Not Found"}, 404)
