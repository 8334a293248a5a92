"""Prime Intellect as a loopback server: offers on demand and spot, pods that boot bare behind sshd, disks, history.

Usage: `PrimeSimulator(clock)` in process, `with simulator.serve() as server: server.url` for others.
"""

from runner_provisioner.simulators.prime import rows, texts
from runner_provisioner.simulators.prime.account import Permission
from runner_provisioner.simulators.prime.catalog import Amount, Market, Offer
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.settings import Progress, Settings
from runner_provisioner.simulators.prime.simulator import PrimeSimulator

__all__ = [
    "Amount",
    "Market",
    "Offer",
    "Permission",
    "PrimePod",
    "PrimeSimulator",
    "Progress",
    "Settings",
    "rows",
    "texts",
]
