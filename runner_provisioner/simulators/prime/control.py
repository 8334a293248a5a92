"""What `/_sim/` can do to Prime Intellect beyond what it can do to every market.

`POST market` also takes `stock` and `price` by offer or GPU type, `defect` by offer, `status` and `failure` by pod,
`ssh_keys` by name, `teams`, and `templates` (id: image) as the dashboard makes them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner_provisioner.simulators.market import control as market
from runner_provisioner.simulators.market.hosts import Defect
from runner_provisioner.simulators.prime.rows import ROWS

if TYPE_CHECKING:
    from runner_provisioner.simulators.prime.simulator import PrimeSimulator

Row = dict[str, Any]


class Control(market.Control):
    """The control interface of one simulator."""

    def __init__(self, simulator: PrimeSimulator) -> None:
        super().__init__(simulator, ROWS)
        self._prime = simulator

    def change_market(self, given: Row) -> None:
        """Anything of the market, the account, the settings and single pods."""
        simulator = self._prime
        with simulator.lock:
            for name, count in given.get("stock", {}).items():
                simulator.market.set_stock(name, count)
            for name, price in given.get("price", {}).items():
                simulator.market.set_price(name, Decimal(str(price)))
            for name, defect in given.get("defect", {}).items():
                simulator.market.offer(name).defect = Defect(defect) if defect else None
            for pod_id, status in given.get("status", {}).items():
                simulator.set_status(pod_id, status)
            for pod_id, reason in given.get("failure", {}).items():
                simulator.fail(pod_id, reason)
            for name, public in given.get("ssh_keys", {}).items():
                simulator.account.add_ssh_key(name, public)
            simulator.account.teams |= set(given.get("teams", ()))
            for template_id, image in given.get("templates", {}).items():
                simulator.add_template(image, template_id)
            super().change_market(given)

    def add_pod(self, given: Row) -> Row:
        """A pod that somebody else made; tells its `id`."""
        return {"id": self._prime.add_pod(**given).id}
