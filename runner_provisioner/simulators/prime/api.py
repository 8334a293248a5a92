"""Every operation of Prime Intellect's API over the simulated account, market and fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner_provisioner.simulators.market.rest import Answer, Asked, Route
from runner_provisioner.simulators.prime import texts
from runner_provisioner.simulators.prime.account import WALLET, Account, Disk, Permission, SshKey, new_id
from runner_provisioner.simulators.prime.catalog import Market, Offer
from runner_provisioner.simulators.prime.creating import Creating, checked
from runner_provisioner.simulators.prime.fleet import Fleet
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.texts import invalid, refuse
from runner_provisioner.simulators.prime.views import Views, disk_offer_row, disk_row, offer_row

Row = dict[str, Any]
_MOST = 100
_BASE = "/api/v1"
READING = frozenset({"GET"})


class Api:
    """Called under the simulator's lock."""

    def __init__(
        self, fleet: Fleet, market: Market, account: Account, views: Views, log_of: Callable[[str], str]
    ) -> None:
        """`log_of` gives the output of a pod."""
        self._fleet = fleet
        self._market = market
        self._account = account
        self._views = views
        self._creating = Creating(market, account, fleet.settings)
        self._log_of = log_of

    def routes(self) -> list[Route]:
        """Everything that is served. The CLI's paths: those with another slash are redirected."""
        rows = [
            ("GET", "/availability/gpus", "availability.gpus", self.gpus),
            ("GET", "/availability/multi-node", "availability.multi-node", self.nothing),
            ("GET", "/availability/disks", "availability.disks", self.disk_offers),
            ("GET", "/availability/gpu-summary", "availability.gpu-summary", self.by_type),
            ("GET", "/availability/", "availability.all", self.by_type),
            ("GET", "/availability/clusters", "availability.clusters", lambda _asked: Answer({})),
            ("POST", "/pods", "pods.create", self.create),
            ("GET", "/pods", "pods.list", self.list),
            ("GET", "/pods/status", "pods.status", self.status),
            ("GET", "/pods/history", "pods.history", self.history),
            ("GET", "/pods/{pod_id}", "pods.get", self.get),
            ("GET", "/pods/{pod_id}/logs", "pods.logs", self.logs),
            ("DELETE", "/pods/{pod_id}", "pods.delete", self.delete),
            ("GET", "/ssh_keys", "ssh_keys.list", self.ssh_keys),
            ("POST", "/ssh_keys", "ssh_keys.create", self.add_ssh_key),
            ("DELETE", "/ssh_keys/{key_id}", "ssh_keys.delete", self.delete_ssh_key),
            ("PATCH", "/ssh_keys/{key_id}/primary", "ssh_keys.primary", self.primary_ssh_key),
            ("POST", "/templates/check-image", "templates.check-image", self.check_image),
            ("GET", "/templates/registry-credentials", "templates.credentials", lambda _asked: Answer({"data": []})),
            ("GET", "/disks", "disks.list", self.disks),
            ("POST", "/disks", "disks.create", self.add_disk),
            ("GET", "/disks/{disk_id}", "disks.get", lambda asked: Answer(disk_row(self._disk(asked)))),
            ("PATCH", "/disks/{disk_id}", "disks.update", self.rename_disk),
            ("DELETE", "/disks/{disk_id}", "disks.delete", self.delete_disk),
            ("GET", "/billing/wallet", "billing.wallet", self.wallet),
        ]
        return [Route(method, _BASE + path, name, act) for method, path, name, act in rows]

    def admit(self, key: str, method: str) -> None:
        """Refuse a key that is unknown, or may only read."""
        permission = self._account.keys.get(key)
        if permission is None:
            raise refuse(401, texts.UNAUTHORIZED)
        if permission is not Permission.ALL and method not in READING:
            raise refuse(403, texts.NO_PERMISSION.format(Permission.ALL.value))

    # -- offers

    def _offers(self, asked: Asked) -> list[Offer]:
        wanted = {
            name: set(asked.query.get(name, ()))
            for name in ("regions", "gpu_type", "socket", "security", "data_center_id", "cloud_id")
        }
        count = _number(asked, "gpu_count", 0, most=None)
        places = {self._account.disks[each].data_center for each in asked.query.get("disks", ()) if self._known(each)}
        return [
            offer
            for offer in self._market.offers
            if all(not wanted[name] or value in wanted[name] for name, value in _traits(offer).items())
            and count in (0, offer.gpu_count)
            and (not asked.query.get("disks") or offer.data_center in places)
        ]

    def _known(self, disk_id: str) -> bool:
        if disk_id not in self._account.disks:
            raise refuse(404, f"Disk {disk_id} not found")
        return True

    def gpus(self, asked: Asked) -> Answer:
        """Offers of single nodes, a page of them."""
        return _page([offer_row(each) for each in self._offers(asked)], asked)

    def nothing(self, asked: Asked) -> Answer:
        """Offers of clusters: none here."""
        return _page([], asked)

    def disk_offers(self, asked: Asked) -> Answer:
        """Where disks can be had: once per data center."""
        places = {each.data_center: disk_offer_row(each) for each in self._offers(asked)}
        return _page(list(places.values()), asked)

    def by_type(self, asked: Asked) -> Answer:
        """The older form: offers by GPU type."""
        grouped: dict[str, list[Row]] = {}
        for offer in self._offers(asked):
            grouped.setdefault(offer.gpu_type, []).append(offer_row(offer))
        return Answer(grouped)

    # -- pods

    def create(self, asked: Asked) -> Answer:
        """Rent a pod; the answer is from before it runs."""
        body = checked(asked.body)
        offer = self._creating.place(body["pod"], body["provider"]["type"])
        now = self._fleet.now()
        header = asked.headers.get("x-prime-team-id")
        pod = self._creating.build(body, offer, header_team=header, now=now)
        if self._fleet.balance() < pod.price_hr:
            raise refuse(402, texts.NO_FUNDS)
        for disk_id in pod.disks:
            self._account.disks[disk_id].pods.append(pod.id)
        self._fleet.rent(pod)
        return Answer(self._views.pod(pod))

    def list(self, asked: Asked) -> Answer:
        """Pods that are not gone, late when a lag is set."""
        pods = self._fleet.listed()
        shown, paged = _window(pods, asked)
        for pod in shown:
            self._fleet.look(pod)
        return Answer({**paged, "data": [self._views.pod(pod) for pod in shown]})

    def status(self, asked: Asked) -> Answer:
        """Of those among the named pods that there are."""
        if not asked.query.get("pod_ids"):
            raise invalid("query.pod_ids", "Field required", "missing")
        found = [pod for each in asked.query["pod_ids"] if (pod := self._fleet.find(each)) is not None]
        for pod in found:
            self._fleet.look(pod)
        return Answer({"data": [self._views.status(pod) for pod in found]})

    def history(self, asked: Asked) -> Answer:
        """Pods that are gone, with what they cost."""
        name, order = asked.first("sort_by", "terminatedAt"), asked.first("sort_order", "desc")
        if name not in ("terminatedAt", "createdAt"):
            raise invalid("query.sort_by", "Input should be 'terminatedAt' or 'createdAt'", "enum")
        if order not in ("asc", "desc"):
            raise invalid("query.sort_order", "Input should be 'asc' or 'desc'", "enum")
        ended = [
            (pod.ended_at if name == "terminatedAt" else pod.created_at, pod)
            for pod in self._fleet.pods.values()
            if pod.ended_at is not None
        ]
        ended.sort(key=lambda each: each[0], reverse=order == "desc")
        shown, paged = _window([pod for _, pod in ended], asked)
        now = self._fleet.now()
        return Answer({**paged, "data": [self._views.past(pod, pod.meter.cost(now)) for pod in shown]})

    def _pod(self, asked: Asked) -> PrimePod:
        pod = self._fleet.find(asked.names["pod_id"])
        if pod is None:
            raise refuse(404, texts.NOT_FOUND)
        return pod

    def get(self, asked: Asked) -> Answer:
        """One pod, never late."""
        pod_id = asked.names["pod_id"]
        if self._fleet.settings.shows_terminated and self._fleet.find(pod_id) is None and pod_id in self._fleet.pods:
            return Answer(self._views.pod(self._fleet.pods[pod_id]))
        pod = self._pod(asked)
        self._fleet.look(pod)
        return Answer(self._views.pod(pod))

    def logs(self, asked: Asked) -> Answer:
        """The pod's output as text."""
        return Answer(self._log_of(self._pod(asked).id))

    def delete(self, asked: Asked) -> Answer:
        """End it for good, or only pretend to."""
        pod = self._pod(asked)
        now = self._fleet.now()
        if asked.ignored:
            pod.note(now, "terminate ignored")
        else:
            self._fleet.delete(pod, now)
            for disk_id in pod.disks:
                self._account.disks[disk_id].pods = []
        return Answer({"status": "DELETING"})

    # -- keys

    def ssh_keys(self, asked: Asked) -> Answer:
        """Of the account."""
        shown, paged = _window(list(self._account.ssh_keys.values()), asked)
        return Answer({**paged, "data": [key.row() for key in shown]})

    def add_ssh_key(self, asked: Asked) -> Answer:
        """A key of the account; the first is the primary one."""
        given = asked.row()
        name, public = given.get("name"), given.get("publicKey")
        if not isinstance(name, str) or not isinstance(public, str) or len(public.split()) < 2:  # noqa: PLR2004
            raise invalid("body.publicKey", "Input should be a public key with a name")
        return Answer(self._account.add_ssh_key(name, public).row())

    def _ssh_key(self, asked: Asked) -> SshKey:
        key = self._account.ssh_keys.get(asked.names["key_id"])
        if key is None:
            raise refuse(404, "SSH key not found")
        return key

    def delete_ssh_key(self, asked: Asked) -> Answer:
        """Running pods keep it."""
        del self._account.ssh_keys[self._ssh_key(asked).id]
        return Answer({"status": "success"})

    def primary_ssh_key(self, asked: Asked) -> Answer:
        """Make it the one that new pods get."""
        key = self._ssh_key(asked)
        self._account.make_primary(key, primary=bool(asked.row().get("isPrimary", True)))
        return Answer(key.row())

    # -- templates, disks, money

    def check_image(self, asked: Asked) -> Answer:
        """Whether a registry has it."""
        image = asked.row().get("image")
        if not isinstance(image, str) or not image:
            raise invalid("body.image", "Field required", "missing")
        found = image not in self._fleet.settings.unpullable
        return Answer({"image": image, "accessible": found, "details": "" if found else "manifest unknown"})

    def disks(self, asked: Asked) -> Answer:
        """Of the account."""
        shown, paged = _window(list(self._account.disks.values()), asked)
        return Answer({**paged, "data": [disk_row(each) for each in shown]})

    def add_disk(self, asked: Asked) -> Answer:
        """Its fields are in `disk`, beside `provider` and `team`, or at the top."""
        body = asked.row()
        given: Row = body["disk"] if isinstance(body.get("disk"), dict) else body
        if not isinstance(given.get("size"), int):
            raise invalid("body.disk.size", "Field required", "missing")
        provider = (body.get("provider") or {}).get("type") or self._market.offers[0].provider
        disk = Disk(
            id=new_id(),
            name=given.get("name") or "disk",
            size=given["size"],
            provider=provider,
            data_center=given.get("dataCenterId") or self._market.offers[0].data_center,
            cloud_id=given.get("cloudId"),
            country=given.get("country"),
            team_id=(body.get("team") or {}).get("teamId"),
            created_at=self._fleet.now(),
        )
        self._account.disks[disk.id] = disk
        return Answer(disk_row(disk))

    def _disk(self, asked: Asked) -> Disk:
        disk = self._account.disks.get(asked.names["disk_id"])
        if disk is None:
            raise refuse(404, "Disk not found")
        return disk

    def rename_disk(self, asked: Asked) -> Answer:
        """Its name is all that can be changed."""
        disk = self._disk(asked)
        disk.name = str(asked.row().get("name") or disk.name)
        return Answer(disk_row(disk))

    def delete_disk(self, asked: Asked) -> Answer:
        """Not while a pod has it."""
        disk = self._disk(asked)
        if disk.pods:
            raise refuse(400, "Disk is attached to a pod")
        del self._account.disks[disk.id]
        return Answer({"status": "success"})

    def wallet(self, _asked: Asked) -> Answer:
        """What is left."""
        return Answer(
            {
                "wallet_id": WALLET,
                "team_id": None,
                "balance_usd": float(self._fleet.balance()),
                "currency": "USD",
                "total_billings": 0,
                "recent_billings": [],
            }
        )


def _traits(offer: Offer) -> dict[str, str]:
    return {
        "regions": offer.region,
        "gpu_type": offer.gpu_type,
        "socket": offer.socket,
        "security": offer.security,
        "data_center_id": offer.data_center,
        "cloud_id": offer.cloud_id,
    }


def _number(asked: Asked, name: str, default: int, *, least: int = 0, most: int | None) -> int:
    text = asked.first(name, str(default))
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        raise invalid(f"query.{name}", "Input should be an integer in range", "int_parsing")
    return int(text)


def _page(rows: Sequence[Row], asked: Asked) -> Answer:
    page = _number(asked, "page", 1, least=1, most=None)
    size = _number(asked, "page_size", _MOST, least=1, most=_MOST)
    start = (page - 1) * size
    return Answer({"items": list(rows[start : start + size]), "totalCount": len(rows)})


def _window(rows: Sequence[Any], asked: Asked) -> tuple[list[Any], Row]:
    offset = _number(asked, "offset", 0, most=None)
    limit = _number(asked, "limit", _MOST, least=1, most=_MOST)
    shown = list(rows[offset : offset + limit])
    return shown, {"total_count": len(rows), "offset": offset, "limit": limit}
