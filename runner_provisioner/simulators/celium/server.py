"""The simulated Lium on the wire: credentials and scopes, envelopes, slashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner_provisioner.simulators.celium import texts
from runner_provisioner.simulators.celium.api import Api
from runner_provisioner.simulators.celium.control import Control
from runner_provisioner.simulators.celium.shelf import Shelf
from runner_provisioner.simulators.celium.texts import Refused, answer_of
from runner_provisioner.simulators.market.rest import Answer, Asked, Refusal, RestService, Route

if TYPE_CHECKING:
    from runner_provisioner.simulators.celium.simulator import CeliumSimulator

BASE = "/api"
_RENTS = frozenset({"pods.rent", "pods.rent_by_spec", "templates.create"})
_OPEN = frozenset({"version"})


class Service(RestService):
    """The ASGI application."""

    def __init__(self, simulator: CeliumSimulator, api: Api, shelf: Shelf) -> None:
        routes = [Route(method, BASE + path, name, act) for method, path, name, act in [*api.acts(), *shelf.acts()]]
        super().__init__(simulator, Control(simulator), routes)
        self._celium = simulator

    def credential(self, headers: Mapping[str, str]) -> str:
        """`X-API-KEY`."""
        return headers.get("x-api-key", "")

    def admit(self, asked: Asked, method: str, key: str) -> None:
        """Raise Refusal for a key that may not do this."""
        if asked.operation in _OPEN:
            return
        known = self._celium.account.keys.get(key)
        if known is None:
            raise Refused(401, "unauthorized", texts.UNAUTHORIZED)
        scope = "read" if method == "GET" else "rent" if asked.operation in _RENTS else "manage"
        if scope not in known.scopes:
            raise Refused(403, "missing_scope", texts.NO_SCOPE.format(known.name, scope))

    def refusal(self, refusal: Refusal) -> Answer:
        """In the envelope that is set."""
        if isinstance(refusal, Refused):
            return answer_of(refusal, self._celium.settings.envelope)
        return super().refusal(refusal)

    def unknown(self, path: str, *, other_method: bool) -> Answer:
        """Nothing answers there, or not to this method."""
        if other_method:
            return self.refusal(Refused(405, "method_not_allowed", "Method Not Allowed"))
        return self.refusal(Refused(404, "not_found", f"Not Found: {path}"))
