"""The root fields of the schema, over the simulated account, market and fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.account import Caller, Keys, Shelf
from runner_provisioner.simulators.runpod.catalog import GpuModel, Machine
from runner_provisioner.simulators.runpod.deploy import build_pod, environment, find_place, money, with_template
from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.market import Market, Placement
from runner_provisioner.simulators.runpod.pods import RUNNING, SimPod
from runner_provisioner.simulators.runpod.texts import Refused
from runner_provisioner.simulators.runpod.views import Views

Row = dict[str, Any]
_VCPU_PRICE = Decimal("0.03")


@dataclass(frozen=True)
class Context:
    """One request: who asks, and whether what it ends is to survive."""

    caller: Caller
    ignored: bool = False


Act = Callable[[Context, Row], Any]


def _field(act: Act) -> Callable[..., Any]:
    def resolve(info: Any, **arguments: Any) -> Any:  # noqa: ANN401 - as the GraphQL library calls it
        return act(info.context, arguments.get("input", arguments) or {})

    return resolve


class Resolvers:
    """Every root field as a method of (context, input); called under the simulator's lock."""

    def __init__(self, fleet: Fleet, market: Market, keys: Keys, shelf: Shelf, views: Views) -> None:
        self._fleet = fleet
        self._market = market
        self._keys = keys
        self._shelf = shelf
        self._views = views

    def root(self) -> Mapping[str, Callable[..., Any]]:
        """Name of the root field -> function of (info, **arguments)."""
        acts: dict[str, Act] = {
            "myself": self.myself,
            "pod": self.pod,
            "gpuTypes": self.gpu_types,
            "cpuTypes": lambda _context, _given: [],
            "cpuFlavors": lambda _context, _given: [{"id": "cpu3c", "displayName": "Compute-Optimized", "minVcpu": 2}],
            "dataCenters": self.data_centers,
            "podFindAndDeployOnDemand": lambda context, given: self.deploy(context, given, spot=False),
            "podRentInterruptable": lambda context, given: self.deploy(context, given, spot=True),
            "podResume": lambda context, given: self.resume(context, given, as_bid=False),
            "podBidResume": lambda context, given: self.resume(context, given, as_bid=True),
            "podStop": self.stop,
            "podTerminate": self.terminate,
            "podEditJob": self.edit,
            "deployCpuPod": self.deploy_cpu,
            **self._shelf_acts(),
        }
        return {name: _field(act) for name, act in acts.items()}

    def _shelf_acts(self) -> dict[str, Act]:
        shelf = self._shelf
        acts: dict[str, Callable[[Row], Any]] = {
            "saveTemplate": shelf.save_template,
            "deleteTemplate": lambda given: shelf.delete_template(given["templateName"]),
            "saveRegistryAuth": shelf.save_registry,
            "updateRegistryAuth": shelf.save_registry,
            "deleteRegistryAuth": lambda given: shelf.delete_registry(given["registryAuthId"]),
            "createNetworkVolume": shelf.create_volume,
            "updateNetworkVolume": shelf.update_volume,
            "deleteNetworkVolume": lambda given: shelf.delete_volume(given["id"]),
            "updateUserSettings": self._update_settings,
        }
        return {name: _writing(act) for name, act in acts.items()}

    def _update_settings(self, given: Row) -> Row:
        self._fleet.settings.public_keys = given.get("pubKey") or ""
        return self._user()

    # -- reading

    def myself(self, context: Context, _given: Row) -> Row:
        """The account; its pods are listed late when a lag is set."""
        context.caller.need_account()
        return self._user()

    def _user(self) -> Row:
        fleet = self._fleet
        balance = fleet.balance()
        return {
            "id": "user_simulated",
            "authId": "auth0|simulated",
            "email": "somebody@example.com",
            "clientBalance": float(balance),
            "hostBalance": 0.0,
            "currentSpendPerHr": float(fleet.spend()),
            "spendLimit": int(fleet.settings.spend_limit),
            "underBalance": balance <= 0,
            "minBalance": 0.0,
            "machineQuota": 0,
            "pubKey": fleet.settings.public_keys,
            "pods": lambda _info: [self._seen(pod) for pod in fleet.listed()],
            "networkVolumes": list(self._shelf.volumes.values()),
            "podTemplates": list(self._shelf.templates.values()),
            "containerRegistryCreds": list(self._shelf.registries.values()),
            "endpoints": [],
            "notifyPodsStale": True,
            "notifyPodsGeneral": True,
            "notifyLowBalance": True,
        }

    def pod(self, context: Context, given: Row) -> Row | None:
        """One pod, never late; null when there is none."""
        pod_id = given.get("podId", "")
        context.caller.need_read(pod_id)
        pod = self._fleet.find(pod_id)
        return None if pod is None else self._seen(pod)

    def _seen(self, pod: SimPod) -> Row:
        self._fleet.look(pod)
        return self._views.pod(pod)

    def gpu_types(self, _context: Context, given: Row) -> list[Row]:
        """All models, or those asked for; MIG variants are listed too."""
        wanted = [each for each in [given.get("id"), *(given.get("ids") or ())] if each]
        models = self._market.catalog.models
        return [self._views.gpu_type(model) for model in models if not wanted or model.id in wanted]

    def data_centers(self, _context: Context, _given: Row) -> list[Row]:
        """All data centres."""
        return [self._views.data_center(each) for each in self._market.catalog.centers]

    # -- creating

    def deploy(self, context: Context, given: Row, *, spot: bool) -> Row:
        """Rent a pod; the answer is from before its container runs."""
        context.caller.need_write()
        wish = with_template(given, self._shelf)
        place = find_place(self._market, wish, spot=spot)
        return self._rent(wish, place, spot=spot)

    def deploy_cpu(self, context: Context, given: Row) -> Row:
        """A pod without GPU; the instance id ends in vCPUs and memory (`cpu3c-2-4`)."""
        context.caller.need_write()
        _, vcpus, memory = (*given["instanceId"].split("-"), "2", "4")[:3]
        model = GpuModel(
            id="", display_name="", memory_in_gb=0, secure_price=None, community_price=None, secure_bid=None,
            community_bid=None,
        )  # fmt: skip
        host = Machine(
            id="cpuhost", gpu_type_id="", secure=True, data_center_id="EU-RO-1", country="RO", gpus=0,
            vcpus_per_gpu=int(vcpus), memory_per_gpu=int(memory),
        )  # fmt: skip
        place = Placement(model=model, machine=host, price=_VCPU_PRICE * int(vcpus))
        return self._rent(with_template(given, self._shelf), place, spot=False, gpus=0)

    def _rent(self, given: Row, place: Placement, *, spot: bool, gpus: int | None = None) -> Row:
        now = self._fleet.now()
        count = (given.get("gpuCount") or 1) if gpus is None else gpus
        self._fleet.afford(place.price * max(1, count))
        pod = build_pod(given, place, spot=spot, now=now, keys=self._keys)
        pod.gpu_count = count
        pod.gpu_type_id = place.model.id or None
        self._fleet.rent(pod)
        return self._views.pod(pod)

    # -- changing

    def _own(self, context: Context, given: Row) -> SimPod:
        context.caller.need_write(given["podId"])
        pod = self._fleet.find(given["podId"])
        if pod is None:
            raise Refused(texts.NOT_FOUND)
        return pod

    def stop(self, context: Context, given: Row) -> Row:
        """End the container and keep the volume."""
        pod = self._own(context, given)
        self._fleet.stop(pod, self._fleet.now())
        return self._views.pod(pod)

    def resume(self, context: Context, given: Row, *, as_bid: bool) -> Row:
        """Start a stopped pod again on its host."""
        pod = self._own(context, given)
        self._fleet.resumable(pod, as_bid=as_bid)
        if as_bid and not self._market.spot:
            raise Refused(texts.SPOT_GONE)
        if pod.status == RUNNING:
            return self._views.pod(pod)
        bid = money(given.get("bidPerGpu"))
        least = self._least_bid(pod)
        if bid is not None and least is not None and bid < least:
            raise Refused(texts.NO_STOCK_SPOT)
        self._fleet.resume(pod, self._fleet.now(), count=given.get("gpuCount"), bid=bid)
        return self._views.pod(pod)

    def _least_bid(self, pod: SimPod) -> Decimal | None:
        model = self._market.model(pod.machine.gpu_type_id)
        return model.minimum_bid(secure=pod.machine.secure) if model else None

    def terminate(self, context: Context, given: Row) -> None:
        """End it for good."""
        context.caller.need_write(given["podId"])
        if self.end(given["podId"], context.caller, ignored=context.ignored) is None:
            raise Refused(texts.NOT_FOUND_TO_TERMINATE)

    def end(self, pod_id: str, caller: Caller, *, ignored: bool) -> SimPod | None:
        """Terminate by id, or only pretend to; None when there is no such pod."""
        pod = self._fleet.find(pod_id)
        if pod is None:
            return None
        if ignored:
            pod.note(self._fleet.now(), "terminate ignored")
            return pod
        self._fleet.terminate(pod, self._fleet.now(), by="User" if caller.pod_id is None else "itself")
        return pod

    def edit(self, context: Context, given: Row) -> Row:
        """Change what the container is made from, and make it anew."""
        pod = self._own(context, given)
        names = {
            "imageName": "image",
            "dockerArgs": "docker_args",
            "ports": "ports",
            "containerDiskInGb": "container_disk",
            "volumeInGb": "volume",
            "volumeMountPath": "volume_mount",
            "containerRegistryAuthId": "registry_auth_id",
        }
        for name, attribute in names.items():
            if given.get(name) is not None:
                setattr(pod, attribute, given[name])
        if given.get("env") is not None:
            pod.env = environment(given["env"])
        self._fleet.edit(pod, self._fleet.now())
        return self._views.pod(pod)


def _writing(act: Callable[[Row], Any]) -> Act:
    def checked(context: Context, given: Row) -> Any:  # noqa: ANN401 - whatever the field answers
        context.caller.need_write()
        return act(given)

    return checked
