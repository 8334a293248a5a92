"""From the body of a creation to a pod."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.prime import texts
from runner_provisioner.simulators.prime.account import Account, new_id
from runner_provisioner.simulators.prime.catalog import CUSTOM, UBUNTU, Market, Offer
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.settings import Settings
from runner_provisioner.simulators.prime.texts import invalid, refuse

Row = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9-]+")
_NEEDED = {"name": str, "cloudId": str, "gpuType": str, "socket": str, "gpuCount": int}
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "diskSize": int, "vcpus": int, "memory": int, "maxPrice": (int, float), "image": str, "customTemplateId": str,
    "dataCenterId": str, "country": str, "security": str, "envVars": list, "jupyterPassword": str, "sshKeyId": str,
    "autoRestart": bool,
}  # fmt: skip


def checked(body: object) -> Row:
    """The body, when every field has the right type; Refusal (422) names the first that has not."""
    if not isinstance(body, dict):
        raise invalid("body", "Input should be a valid dictionary", "dict_type")
    pod, provider = body.get("pod"), body.get("provider")
    if not isinstance(pod, dict):
        raise invalid("body.pod", "Field required", "missing")
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        raise invalid("body.provider.type", "Field required", "missing")
    for name, kind in _NEEDED.items():
        if pod.get(name) is None:
            raise invalid(f"body.pod.{name}", "Field required", "missing")
        _type(name, pod[name], kind)
    for name, kinds in _OPTIONAL.items():
        if pod.get(name) is not None:
            _type(name, pod[name], kinds)
    if not _NAME.fullmatch(pod["name"]):
        raise invalid("body.pod.name", "Name may only have letters, digits and dashes")
    return body


def _type(name: str, value: object, kinds: type | tuple[type, ...]) -> None:
    wrong = isinstance(value, bool) and kinds is not bool
    if wrong or not isinstance(value, kinds):
        raise invalid(f"body.pod.{name}", "Input has a wrong type", "type_error")


def environment(rows: list[Any] | None) -> dict[str, str]:
    """The list of keys and values as a mapping."""
    for number, row in enumerate(rows or ()):
        if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not isinstance(row.get("value"), str):
            raise invalid(f"body.pod.envVars.{number}", "Input should have a key and a value")
    return {row["key"]: row["value"] for row in rows or ()}


class Creating:
    """Checks a creation against the market and the account, in the order of the real service as far as it is known."""

    def __init__(self, market: Market, account: Account, settings: Settings) -> None:
        self._market = market
        self._account = account
        self._settings = settings

    def price(self, offer: Offer, pod: Row) -> Decimal:
        """USD per hour with everything beyond what the offer includes."""
        extras = (
            offer.disk.beyond(pod.get("diskSize")) + offer.vcpu.beyond(pod.get("vcpus"))
            + offer.memory.beyond(pod.get("memory"))
        )  # fmt: skip
        return offer.price + extras

    def place(self, pod: Row, provider: str) -> Offer:
        """The offer that is meant, with something left of it at an acceptable price; Refusal."""
        if self._settings.max_price_required and pod.get("maxPrice") is None:
            raise refuse(400, texts.MAX_PRICE_MISSING)
        meant = [each for each in self._market.offers if _is_meant(each, pod, provider)]
        free = [each for each in meant if each.free >= each.gpu_count]
        if not free:
            raise refuse(400, texts.NO_CAPACITY)
        offer = min(free, key=lambda each: each.price)
        for name, amount in (("diskSize", offer.disk), ("vcpus", offer.vcpu), ("memory", offer.memory)):
            if not amount.allows(pod.get(name)):
                raise refuse(400, f"{name} must be between {amount.least} and {amount.most}")
        ceiling = Decimal(str(pod.get("maxPrice") or 0))  # null and 0 are no ceiling: the CLI and SkyPilot send them
        if ceiling and self.price(offer, pod) > ceiling:
            raise refuse(400, texts.TOO_DEAR.format(ceiling))
        return offer

    def image(self, offer: Offer, pod: Row) -> tuple[str, str, str | None]:
        """The word for it, what really runs, and the template."""
        word = pod.get("image") or UBUNTU
        if word not in offer.images:
            raise refuse(400, f"Image {word} is not supported by {offer.provider}")
        if word != CUSTOM:
            return word, word, None
        template = self._account.templates.get(pod.get("customTemplateId") or "")
        if template is None:
            raise refuse(400, "customTemplateId is missing or no template of this account")
        return word, template.image, template.id

    def team(self, body: Row, header: str | None) -> str | None:
        """The team that pays."""
        wanted = (body.get("team") or {}).get("teamId") or header
        if wanted and wanted not in self._account.teams:
            raise refuse(403, "You are not a member of this team")
        return wanted or None

    def disks(self, body: Row, offer: Offer) -> tuple[str, ...]:
        """Disks to attach: they exist and are where the offer is."""
        wanted = tuple(body.get("disks") or ())
        for disk_id in wanted:
            disk = self._account.disks.get(disk_id)
            if disk is None:
                raise refuse(404, f"Disk {disk_id} not found")
            if disk.data_center != offer.data_center:
                raise refuse(400, f"Disk {disk_id} is in another data center")
        return wanted

    def build(self, body: Row, offer: Offer, *, header_team: str | None, now: datetime) -> PrimePod:
        """The pod that this makes; Refusal."""
        pod: Mapping[str, Any] = body["pod"]
        word, image, template_id = self.image(offer, dict(pod))
        price = self.price(offer, dict(pod))
        return PrimePod(
            id=new_id(),
            name=pod["name"],
            image=image,
            environment=word,
            template_id=template_id,
            env=environment(pod.get("envVars")),
            gpu_count=offer.gpu_count,
            machine=offer,
            price_hr=price,
            stopped_price_hr=price * Decimal(str(self._settings.stopped_share)),
            disk_size=pod.get("diskSize") or offer.disk.included,
            vcpus=pod.get("vcpus") or offer.vcpu.included,
            memory=pod.get("memory") or offer.memory.included,
            disks=self.disks(body, offer),
            team_id=self.team(body, header_team),
            keys=tuple(self._account.keys_for(pod.get("sshKeyId"))),
            auto_restart=bool(pod.get("autoRestart")),
            given=dict(pod),
            created_at=now,
            last_started_at=now,
        )


def _is_meant(offer: Offer, pod: Row, provider: str) -> bool:
    same = {
        "cloudId": offer.cloud_id, "gpuType": offer.gpu_type, "socket": offer.socket, "gpuCount": offer.gpu_count,
        "dataCenterId": offer.data_center, "country": offer.country, "security": offer.security,
    }  # fmt: skip
    told = all(pod.get(name) in (None, "", value) for name, value in same.items())
    return told and offer.provider == provider
