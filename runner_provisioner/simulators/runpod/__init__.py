"""RunPod as a loopback server: GraphQL, REST v2, a market, pods and a bill.

Usage: `RunPodSimulator(clock)` in process, `with simulator.serve() as server: server.url + "/graphql"` for others.
"""

from runner_provisioner.simulators.runpod import rows, texts
from runner_provisioner.simulators.runpod.account import Permission
from runner_provisioner.simulators.runpod.market import Market
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.runpod.settings import Progress, Settings
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

__all__ = ["Market", "Permission", "Progress", "RunPodSimulator", "Settings", "SimPod", "rows", "texts"]
