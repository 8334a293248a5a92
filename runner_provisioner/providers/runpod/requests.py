"""What is sent to rent a pod: from the neutral spec and offer to RunPod's own fields."""

from __future__ import annotations

import json
from decimal import Decimal

from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import CloudType, PodClass, PodSpec
from runner_provisioner.errors import BidTooLow, InvalidRequest
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.inputs import Input, OnDemandInput, PriceInput, RentInput, build, named

_SECURE = {CloudType.ALL: None, CloudType.SECURE: True, CloudType.COMMUNITY: False}
_COUNTRY = 2  # letters
# The name is how a pod is found again; model, count and price are the offer's.
_FIXED = frozenset({"name", "gpu_type_id", "gpu_count", "bid_per_gpu"})


def rent_input(spec: PodSpec, offer: Offer) -> RentInput:
    """Rent at a bid: the offer's price is the bid for the whole pod, RunPod's is for one GPU (go-sdk).

    Raises BidTooLow when the bid is below the offer's minimum, InvalidRequest for an option that does not fit.
    """
    if offer.minimum_bid is not None and offer.price < offer.minimum_bid:
        raise BidTooLow(
            f"a bid of {offer.price} USD/h is below RunPod's minimum of {offer.minimum_bid} USD/h for {offer.gpu_count}"
            f" x {offer.gpu_model}: raise the bid or the maximum price",
            service=SERVICE,
            operation="podRentInterruptable",
            code="BID_TOO_LOW",
        )
    fields = {**_common(spec, offer), "bid_per_gpu": _per_gpu(offer)}
    return build(RentInput, fields | _options(RentInput, spec))


def on_demand_input(spec: PodSpec, offer: Offer) -> OnDemandInput:
    """Rent at the market's price, with the offer's price as the ceiling.

    Raises InvalidRequest for an option that does not fit.
    """
    fields = {**_common(spec, offer), "deploy_cost": float(offer.price)}
    return build(OnDemandInput, fields | _options(OnDemandInput, spec))


def price_input(request: GpuRequest, region: str | None) -> PriceInput:
    """What a price is asked for: only machines that a create with the same wishes could find."""
    wishes = {
        "min_disk": request.disk_gb,
        "min_vcpu_count": request.min_vcpus,
        "min_memory_in_gb": request.min_memory_gb,
        "min_download": request.min_download,
        "min_upload": request.min_upload,
        "min_cuda_version": request.cuda,
        **where(region),
    }
    fields = {"gpu_count": request.count, "secure_cloud": _SECURE[request.cloud], **wishes}
    return build(PriceInput, {name: value for name, value in fields.items() if value is not None})


def start_command(command: str) -> str:
    """The JSON form of dockerArgs: it replaces the image's entrypoint too (cap:dstack)."""
    return json.dumps({"cmd": [command], "entrypoint": ["bash", "-c"]}, separators=(",", ":"))


def _per_gpu(offer: Offer) -> Decimal:
    return offer.price / offer.gpu_count


def _common(spec: PodSpec, offer: Offer) -> dict[str, object]:
    if spec.tags and spec.tags.cls is PodClass.RUNNER and spec.terminate_after is None:
        raise InvalidRequest(f"runner pod '{spec.name}' has no end: give it terminate_after")
    fields: dict[str, object] = {
        "name": spec.name,
        "image_name": spec.image,
        "gpu_type_id": offer.gpu_model,
        "gpu_count": offer.gpu_count,
        "cloud_type": (offer.cloud or spec.cloud).value,
        "container_disk_in_gb": spec.disk_gb,
        "volume_in_gb": spec.volume_gb,
        "volume_mount_path": spec.volume_mount,
        "ports": ",".join(spec.ports),
        "env": _environment(spec),
        "min_vcpu_count": spec.min_vcpus,
        "min_memory_in_gb": spec.min_memory_gb,
        "start_ssh": spec.start_ssh,
        "terminate_after": spec.terminate_after,
    }
    fields |= {name: value for name, value in _wishes(spec, offer).items() if value}
    if spec.command is not None:
        fields["docker_args"] = start_command(spec.command)
    if spec.cloud is not CloudType.SECURE and any(port.endswith("/tcp") for port in spec.ports):
        fields["support_public_ip"] = True  # community hosts have a public address only when asked (docs)
    return fields


def _wishes(spec: PodSpec, offer: Offer) -> dict[str, object]:
    return {
        "min_disk": spec.min_disk_gb,
        "min_download": spec.min_download,
        "min_upload": spec.min_upload,
        "min_cuda_version": spec.cuda,
        "network_volume_id": spec.network_volume,
        **where(offer.region),
    }


def where(region: str | None) -> dict[str, str]:
    """The field that names a place: two letters are a country, more a data centre."""
    if region is None:
        return {}
    return {"country_code" if len(region) == _COUNTRY else "data_center_id": region.upper()}


def _environment(spec: PodSpec) -> dict[str, str]:
    return {**spec.env, **(spec.tags.to_env() if spec.tags else {})}


def _options(model: type[Input], spec: PodSpec) -> dict[str, object]:
    options = named(model, spec.options)
    fixed = _FIXED | ({"docker_args"} if spec.command is not None else set())
    for name in options:
        if name in fixed:
            raise InvalidRequest(f"'{name}' is no option: it is set by the request itself")
    if "env" in options:
        # Tags and start settings win: without them nobody knows whose pod it is.
        options["env"] = {**_mapping(options["env"]), **_environment(spec)}
    return options


def _mapping(env: object) -> dict[str, object]:
    pairs = build(RentInput, {"env": env}).env or ()
    return {pair.key: pair.value for pair in pairs}
