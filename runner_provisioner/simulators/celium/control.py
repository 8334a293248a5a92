"""What `/_sim/` can do to Lium beyond what it can do to every market.

`POST market` also takes `stock` and `price` by executor or machine name, `defect` by executor, `status` and `failure`
by pod, `breaking` (so many rents end in an error after the pod was made).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner_provisioner.simulators.celium.rows import ROWS
from runner_provisioner.simulators.market import control as market
from runner_provisioner.simulators.market.hosts import Defect

if TYPE_CHECKING:
    from runner_provisioner.simulators.celium.simulator import CeliumSimulator

Row = dict[str, Any]


class Control(market.Control):
    """The control interface of one simulator."""

    def __init__(self, simulator: CeliumSimulator) -> None:
        super().__init__(simulator, ROWS)
        self._celium = simulator

    def change_market(self, given: Row) -> None:
        """Anything of the market, the account, the settings and single pods."""
        simulator = self._celium
        with simulator.lock:
            for name, count in given.get("stock", {}).items():
                simulator.market.set_stock(name, count)
            for name, price in given.get("price", {}).items():
                simulator.market.set_price(name, Decimal(str(price)))
            for name, defect in given.get("defect", {}).items():
                simulator.market.executor(name).defect = Defect(defect) if defect else None
            for pod_id, status in given.get("status", {}).items():
                simulator.set_status(pod_id, status)
            for pod_id, reason in given.get("failure", {}).items():
                simulator.fail(pod_id, reason)
            simulator.break_rents(given.get("breaking", 0))
            super().change_market(given)

    def add_pod(self, given: Row) -> Row:
        """A pod that somebody else made; tells its `id`."""
        return {"id": self._celium.add_pod(**given).id}
