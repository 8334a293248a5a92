"""The GraphQL documents. Values never enter them; only the number of aliases varies."""

from __future__ import annotations

from collections.abc import Sequence

# dockerArgs is never asked for: it carries the registration token.
_POD = (
    "id name imageName desiredStatus lastStatusChange lastStartedAt createdAt podType costPerHr env ports "
    "gpuCount vcpuCount memoryInGb containerDiskInGb volumeInGb volumeMountPath machineId "
    "machine { podHostId gpuTypeId gpuDisplayName } "
    "runtime { uptimeInSeconds container { cpuPercent memoryPercent } "
    "gpus { id gpuUtilPercent memoryUtilPercent } ports { ip isIpPublic privatePort publicPort type } } "
    "latestTelemetry { state time lastStateTransitionTimestamp cpuUtilization memoryUtilization }"
)
_GPU = "id displayName memoryInGb secureCloud communityCloud"
_PRICE = "lowestPrice(input: $price) { minimumBidPrice uninterruptablePrice stockStatus }"
_USER = "id email clientBalance currentSpendPerHr spendLimit underBalance pubKey"


def _mutation(verb: str, input_type: str) -> str:
    return f"mutation {verb}($input: {input_type}!) {{ {verb}(input: $input) {{ {_POD} }} }}"


MYSELF = f"query myself {{ myself {{ {_USER} }} }}"
BALANCE = "query clientBalance { myself { id clientBalance } }"
PUB_KEY = "query pubKey { myself { id pubKey } }"
NETWORK_VOLUMES = "query networkVolumes { myself { id networkVolumes { id dataCenterId } } }"
MY_PODS = f"query myPods {{ myself {{ pods {{ {_POD} }} }} }}"
POD = f"query pod($podId: String!) {{ pod(input: {{podId: $podId}}) {{ {_POD} }} }}"
GPU_TYPES = f"query gpuTypes {{ gpuTypes {{ {_GPU} }} }}"
GPU_PRICES = f"query gpuPrices($price: GpuLowestPriceInput) {{ gpuTypes {{ {_GPU} {_PRICE} }} }}"
RENT = _mutation("podRentInterruptable", "PodRentInterruptableInput")
DEPLOY = f"""mutation podFindAndDeployOnDemand($input: PodFindAndDeployOnDemandInput) {{
  podFindAndDeployOnDemand(input: $input) {{ {_POD} }}
}}"""
RESUME = _mutation("podResume", "PodResumeInput")
BID_RESUME = _mutation("podBidResume", "PodBidResumeInput")
STOP = _mutation("podStop", "PodStopInput")
TERMINATE = "mutation podTerminate($input: PodTerminateInput!) { podTerminate(input: $input) }"


def aliases(prefix: str, values: Sequence[str]) -> dict[str, str]:
    """One alias for each value: p0, p1, ..."""
    return {f"{prefix}{number}": value for number, value in enumerate(values)}


def several_pods(names: Sequence[str]) -> str:
    """Read several pods in one request, one alias and one variable of the same name each."""
    declared = ", ".join(f"${name}: String!" for name in names)
    asked = " ".join(f"{name}: pod(input: {{podId: ${name}}}) {{ {_POD} }}" for name in names)
    return f"query pods({declared}) {{ {asked} }}"


def several_prices(names: Sequence[str]) -> str:
    """What several GPU models cost, one alias and one variable of the same name each."""
    declared = ", ".join(f"${name}: String!" for name in names)
    asked = " ".join(f"{name}: gpuTypes(input: {{id: ${name}}}) {{ {_GPU} {_PRICE} }}" for name in names)
    return f"query gpuPricesOf($price: GpuLowestPriceInput, {declared}) {{ {asked} }}"
