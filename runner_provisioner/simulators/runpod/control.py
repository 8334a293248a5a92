"""What `/_sim/` can do to RunPod beyond what it can do to every market.

`POST market` also takes `spot`, `graphql` (false: retired), `stock` and `price` by GPU type, `defect` by machine.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner_provisioner.simulators.market import control as market
from runner_provisioner.simulators.runpod.catalog import Defect
from runner_provisioner.simulators.runpod.rows import ROWS

if TYPE_CHECKING:
    from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

Row = dict[str, Any]


class Control(market.Control):
    """The control interface of one simulator."""

    def __init__(self, simulator: RunPodSimulator) -> None:
        super().__init__(simulator, ROWS)
        self._runpod = simulator

    def change_market(self, given: Row) -> None:
        """Anything of the market, the account and the settings."""
        simulator = self._runpod
        with simulator.lock:
            if "spot" in given:
                simulator.market.spot = bool(given["spot"])
            if "graphql" in given:
                simulator.settings.graphql_retired = not given["graphql"]
            for gpu_type_id, count in given.get("stock", {}).items():
                simulator.market.set_stock(gpu_type_id, count)
            for gpu_type_id, price in given.get("price", {}).items():
                simulator.market.set_price(gpu_type_id, on_demand=Decimal(str(price)))
            for machine_id, defect in given.get("defect", {}).items():
                simulator.market.machine(machine_id).defect = Defect(defect) if defect else None
            super().change_market(given)

    def add_pod(self, given: Row) -> Row:
        """A pod that somebody else made; tells its `id`."""
        return {"id": self._runpod.add_pod(**given).id}
