"""What is sent to rent a pod: from the neutral spec and the offer to the body of a create."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from pydantic.alias_generators import to_camel

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodSpec
from runner_provisioner.errors import InvalidRequest, OfferUnfit
from runner_provisioner.providers.prime.amounts import Sizes, Wanted, sizes
from runner_provisioner.providers.prime.inputs import CreateInput, build, options_of
from runner_provisioner.providers.prime.wire import WireOffer

BARE_IMAGE = "ubuntu_22_cuda_12"
CUSTOM = "custom_template"
_LOGIN_KEYS = "PUBLIC_KEY"
_NO_ENVIRONMENT = "runpod"  # an upstream provider that passes on none (prime 0.18, measured)
_ROUNDING = Decimal("0.0001")  # prices travel as floats

Fields = dict[str, object]


def create_input(spec: PodSpec, offer: Offer, row: WireOffer, *, team: str | None = None) -> CreateInput:
    """The body for this offer, whose description is `row`; `maxPrice` is what the offer may cost.

    Raises InvalidRequest for what no offer can do, OfferUnfit for what this one cannot.
    """
    if spec.needs_kill_time:
        raise OfferUnfit("Prime Intellect ends no pod by itself, and this one needs a kill time")
    if spec.command is not None:
        raise InvalidRequest(
            "Prime Intellect has no start command: leave it out and start it over SSH, as `start` does, or give the "
            "option customTemplateId of a template whose image starts it"
        )
    pod, beside = options_of(spec.options)
    chosen = _sized(spec, offer, row, pod)
    image = _image(spec, row, pod)
    env = _environment(spec, row, image, pod)
    ceiling = _ceiling(offer, pod)
    fields: Fields = {
        **pod,
        "name": spec.name,
        "cloud_id": row.cloud_id,
        "gpu_type": row.gpu_type,
        "socket": row.socket,
        "gpu_count": offer.gpu_count,
        "data_center_id": row.data_center,
        "country": row.country,
        "security": row.security,
        "image": image,
        "disk_size": chosen.disk_size,
        "vcpus": chosen.vcpus,
        "memory": chosen.memory,
        "max_price": float(ceiling),
        "env_vars": env,
    }
    if team is not None:
        beside.setdefault("team", team)
    if spec.network_volume is not None:
        beside.setdefault("disks", [spec.network_volume])
    return build({**beside, "pod": fields, "provider": {"type": row.provider}})


def _sized(spec: PodSpec, offer: Offer, row: WireOffer, options: Fields) -> Sizes:
    """The sizes that the options name, else those that the spec needs. A pod has one disk: the volume is part of it."""
    disk, vcpus, memory = (_whole(options, name) for name in ("disk_size", "vcpus", "memory"))
    given = {"disk_gb": disk, "vcpus": vcpus, "memory_gb": memory}
    wanted = Wanted(
        disk_gb=spec.disk_gb + spec.volume_gb if disk is None else disk,
        vcpus=spec.min_vcpus if vcpus is None else vcpus,
        memory_gb=spec.min_memory_gb if memory is None else memory,
        exact=frozenset(name for name, value in given.items() if value is not None),
    )
    chosen = sizes(row, wanted)
    if chosen.price > offer.price + _ROUNDING:
        raise OfferUnfit(
            f"with {chosen.disk_size} GB of disk, {chosen.vcpus} CPUs and {chosen.memory} GB of memory it costs "
            f"{chosen.price} USD/h, offered at {offer.price}"
        )
    return chosen


def _whole(options: Fields, name: str) -> int | None:
    value = options.pop(name, None)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    text = str(value)
    if not text.isascii() or not text.isdecimal():
        raise InvalidRequest(f"Prime Intellect field '{to_camel(name)}' does not fit: give a whole number")
    return int(text)


def _ceiling(offer: Offer, options: Fields) -> Decimal:
    given = options.pop("max_price", None)
    if given is None:
        return offer.price
    try:
        wish = Decimal(str(given))
    except InvalidOperation:
        wish = Decimal(0)
    if not wish.is_finite() or wish <= 0:
        raise InvalidRequest("Prime Intellect field 'maxPrice' does not fit: give USD per hour, more than 0")
    return min(wish, offer.price)


def _image(spec: PodSpec, row: WireOffer, options: Fields) -> str:
    """The word for the image: a custom template's, the option's, the spec's, or the bare system."""
    there = row.images or ()
    wish = options.pop("image", None) or spec.image
    if options.get("custom_template_id"):
        wish = CUSTOM
    elif wish == CUSTOM:
        raise InvalidRequest(f"image '{CUSTOM}' needs the option customTemplateId: copy it from the dashboard")
    if not wish:
        wish = BARE_IMAGE if BARE_IMAGE in there else next((each for each in there if each != CUSTOM), "")
    if wish not in there:
        has = ", ".join(there) or "none"
        raise OfferUnfit(
            f"it has no image '{wish}' (it has {has}): an image of your own is a custom template", option="--image"
        )
    return str(wish)


def _environment(spec: PodSpec, row: WireOffer, image: str, options: Fields) -> object:
    """The variables, where an image reads them.

    The tags and the login keys are not the user's own: they go along where any variable can, and are no reason to
    refuse where none can (the name says whose the pod is, and the account's primary key logs in).
    """
    tags = spec.tags.to_env() if spec.tags else {}
    env = {**_mapping(options.pop("env_vars", None)), **spec.env}
    if image == BARE_IMAGE:
        if env.keys() - tags.keys() - {_LOGIN_KEYS}:
            raise InvalidRequest(
                f"Prime Intellect passes no environment to image '{BARE_IMAGE}': leave it out, or use a custom template"
            )
        return None
    env |= tags if image == CUSTOM else {}
    if not env:
        return None
    if row.provider == _NO_ENVIRONMENT:
        raise OfferUnfit(f"its upstream provider {row.provider} passes no environment on")
    return env


def _mapping(env: object) -> Fields:
    """Names and values, also as the list of pairs that the wire has."""
    if env is None:
        return {}
    if isinstance(env, Mapping):
        return {str(name): value for name, value in env.items()}
    found: Fields = {}
    for pair in env if isinstance(env, (list, tuple)) else [None]:
        if not (isinstance(pair, Mapping) and {"key", "value"} <= set(pair)):
            raise InvalidRequest("Prime Intellect field 'envVars' does not fit: give names and values")
        found[str(pair["key"])] = pair["value"]
    return found
