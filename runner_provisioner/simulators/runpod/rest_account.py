"""What else an account has at REST v2: SSH keys, templates, network volumes, registry logins, bills."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.runpod import rest_schemas as schemas
from runner_provisioner.simulators.runpod.account import Shelf
from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.runpod.rest_call import Problem, RestCall, RestReply, checked
from runner_provisioner.simulators.runpod.texts import Refused

Row = dict[str, Any]
_BUCKETS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
_MONTH = timedelta(days=30)
_BEGIN = datetime(2020, 1, 6, tzinfo=UTC)  # a Monday, on which every bucket begins
_ZERO = Decimal(0)


class RestAccount:
    """Answers under the simulator's lock."""

    def __init__(self, fleet: Fleet, shelf: Shelf) -> None:
        self._fleet = fleet
        self._shelf = shelf

    # -- SSH keys

    def ssh_keys(self, call: RestCall) -> RestReply:
        """The account's."""
        call.caller.need_account()
        return RestReply(200, {"keys": [line for line in self._fleet.settings.public_keys.splitlines() if line]})

    def replace_ssh_keys(self, call: RestCall) -> RestReply:
        """All of them at once."""
        call.caller.need_write()
        keys = checked(call.body, schemas.SSH_KEYS)["keys"]
        self._fleet.settings.public_keys = "\n".join(keys)
        return RestReply(200, {"keys": keys})

    # -- templates

    def templates(self, call: RestCall) -> RestReply:
        """The account's."""
        call.caller.need_account()
        return RestReply(200, {"templates": [_template(row) for row in self._shelf.templates.values()]})

    def template(self, call: RestCall) -> RestReply:
        """One."""
        call.caller.need_account()
        return RestReply(200, _template(self._find_template(call.parts[0])))

    def create_template(self, call: RestCall) -> RestReply:
        """A new one; names are unique."""
        call.caller.need_write()
        body = checked(call.body, schemas.CREATE_TEMPLATE)
        return RestReply(201, _template(self._save_template(body, {})))

    def update_template(self, call: RestCall) -> RestReply:
        """What is named is changed."""
        call.caller.need_write()
        known = self._find_template(call.parts[0])
        body = checked(call.body, schemas.UPDATE_TEMPLATE)
        return RestReply(200, _template(self._save_template(body, known)))

    def delete_template(self, call: RestCall) -> RestReply:
        """By id."""
        call.caller.need_write()
        self._shelf.delete_template(self._find_template(call.parts[0])["name"])
        return RestReply(204)

    def _find_template(self, template_id: str) -> Row:
        try:
            return self._shelf.template(template_id)
        except Refused as error:
            raise Problem(404, str(error)) from error

    def _save_template(self, body: Row, known: Row) -> Row:
        try:
            return self._shelf.save_template({**known, **_stored(body)})
        except Refused as error:
            raise Problem(400, str(error)) from error

    # -- network volumes and registries

    def volumes(self, call: RestCall) -> RestReply:
        """The account's."""
        call.caller.need_account()
        return RestReply(200, {"networkVolumes": [_volume(row) for row in self._shelf.volumes.values()]})

    def volume(self, call: RestCall) -> RestReply:
        """One."""
        call.caller.need_account()
        return RestReply(200, _volume(self._find_volume(call.parts[0])))

    def create_volume(self, call: RestCall) -> RestReply:
        """A new one."""
        call.caller.need_write()
        body = checked(call.body, schemas.CREATE_VOLUME)
        row = {"name": body["name"], "size": body["size"], "dataCenterId": body["dataCenter"]}
        return RestReply(201, _volume(self._shelf.create_volume(row)))

    def update_volume(self, call: RestCall) -> RestReply:
        """Its name or size."""
        call.caller.need_write()
        row = self._find_volume(call.parts[0])
        body = checked(call.body, schemas.UPDATE_VOLUME)
        return RestReply(200, _volume(self._shelf.update_volume({"id": row["id"], **body})))

    def delete_volume(self, call: RestCall) -> RestReply:
        """By id."""
        call.caller.need_write()
        self._shelf.delete_volume(self._find_volume(call.parts[0])["id"])
        return RestReply(204)

    def _find_volume(self, volume_id: str) -> Row:
        row = self._shelf.volumes.get(volume_id)
        if row is None:
            raise Problem(404, "network volume not found")
        return row

    def registries(self, call: RestCall) -> RestReply:
        """The account's logins, without their passwords."""
        call.caller.need_account()
        return RestReply(200, {"registries": list(self._shelf.registries.values())})

    def create_registry(self, call: RestCall) -> RestReply:
        """A new one."""
        call.caller.need_write()
        body = checked(call.body, schemas.CREATE_REGISTRY)
        return RestReply(201, self._shelf.save_registry({"name": body["name"]}))

    def delete_registry(self, call: RestCall) -> RestReply:
        """A missing one is a 400, not a 404 (seen 2026-09-18)."""
        call.caller.need_write()
        try:
            self._shelf.delete_registry(call.parts[0])
        except Refused as error:
            raise Problem(400, str(error)) from error
        return RestReply(204)

    # -- bills

    def bill(self, call: RestCall) -> RestReply:
        """What everything cost, by time; here only pods cost something."""
        call.caller.need_account()
        records = [_whole(span, rows) for span, rows in self._by_span(call.query).items()]
        return RestReply(200, _billing(records, {"records": len(records)}))

    def pod_bills(self, call: RestCall) -> RestReply:
        """What each pod cost, by time."""
        call.caller.need_account()
        wanted = call.query.get("podId")
        rows = [row for rows in self._by_span(call.query).values() for row in rows]
        records = [row for row in rows if wanted in {None, row["podId"]}]
        unique = len({row["podId"] for row in records})
        return RestReply(200, _billing(records, {"uniquePodCount": unique}))

    def _by_span(self, query: Mapping[str, str]) -> dict[tuple[datetime, datetime], list[Row]]:
        found = {}
        for start, end in _spans(query, self._fleet.now()):
            rows = [_pod_bill(pod, start, end, self._fleet.now()) for pod in self._fleet.pods.values()]
            found[start, end] = [row for row in rows if row["totalAmount"] > 0]
        return {span: rows for span, rows in found.items() if rows}


def _stored(body: Row) -> Row:
    """A template in the names that creations read."""
    env = body.get("env")
    names = {"image": "imageName", "args": "dockerArgs", "disk": "containerDiskInGb", "name": "name"}
    row = {stored: body[name] for name, stored in names.items() if name in body}
    row |= {
        name: body[name] for name in ("startSsh", "startJupyter", "serverless", "public", "category") if name in body
    }
    if "ports" in body:
        row["ports"] = ",".join(body["ports"])
    if env is not None:
        row["env"] = [{"key": name, "value": value} for name, value in env.items()]
    return row


def _template(row: Row) -> Row:
    return {
        "id": row["id"],
        "name": row["name"],
        "image": row.get("imageName", ""),
        "args": row.get("dockerArgs") or "",
        "disk": row.get("containerDiskInGb") or 20,
        "mounts": {},
        "ports": [each for each in (row.get("ports") or "").split(",") if each],
        "env": {each["key"]: each["value"] for each in row.get("env") or ()},
        "registry": None,
        "serverless": bool(row.get("serverless")),
        "public": bool(row.get("public")),
        "category": row.get("category", "NVIDIA"),
        "startSsh": row.get("startSsh", True),
        "startJupyter": row.get("startJupyter", True),
        "allowedCudaVersions": [],
    }


def _volume(row: Row) -> Row:
    return {
        "id": row["id"],
        "name": row.get("name", ""),
        "size": row.get("size", 10),
        "dataCenter": row.get("dataCenterId"),
        "type": "STANDARD",
    }


def _spans(query: Mapping[str, str], now: datetime) -> list[tuple[datetime, datetime]]:
    """The time buckets of a query, whole ones. Raises Problem."""
    size = query.get("bucketSize", "day")
    length = _BUCKETS.get(size) or {"month": _MONTH, "year": 12 * _MONTH}.get(size)
    if length is None:
        raise Problem(
            422, "Request validation failed.", ["bucketSize: value must be one of hour, day, week, month, year"]
        )
    if "lastN" in query and ("startTime" in query or "endTime" in query):
        raise Problem(400, "lastN is mutually exclusive with startTime and endTime")
    end = _moment(query, "endTime") or now
    start = _moment(query, "startTime") or end - timedelta(days=30)
    if "lastN" in query:
        start = now - length * (int(query["lastN"]) - 1)
    begin = start - (start - _BEGIN) % length
    count = -((begin - end) // length)
    return [(begin + length * n, begin + length * (n + 1)) for n in range(count)]


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        return datetime.fromisoformat(query[name])
    except ValueError as error:
        raise Problem(422, "Request validation failed.", [f"{name}: is not a date-time"]) from error


def _pod_bill(pod: SimPod, start: datetime, end: datetime, now: datetime) -> Row:
    until = min(end, now)
    total = max(_ZERO, pod.meter.cost(until) - pod.meter.cost(start))
    gpu = max(_ZERO, pod.meter.cost(until, "gpu") - pod.meter.cost(start, "gpu"))
    return {
        "startTime": _written(start),
        "endTime": _written(end),
        "podId": pod.id,
        "totalAmount": float(total),
        "gpuAmount": float(gpu),
        "cpuAmount": 0.0,
        "diskAmount": float(total - gpu),
    }


def _whole(span: tuple[datetime, datetime], rows: list[Row]) -> Row:
    return {
        "startTime": _written(span[0]),
        "endTime": _written(span[1]),
        "totalAmount": sum(row["totalAmount"] for row in rows),
        "podGpuAmount": sum(row["gpuAmount"] for row in rows),
        "podCpuAmount": 0.0,
        "podDiskAmount": sum(row["diskAmount"] for row in rows),
    }


def _billing(records: list[Row], counts: Row) -> Row:
    names = [name for name in (records[0] if records else {}) if name.endswith("Amount")]
    totals = {name: sum(row[name] for row in records) for name in names} or {"totalAmount": 0.0}
    return {"records": records, "metadata": {"recordCount": len(records), **counts, "totals": totals}}


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
