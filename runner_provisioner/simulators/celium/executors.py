"""Which executors a query or a wish means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.celium.catalog import Executor
from runner_provisioner.simulators.celium.texts import invalid
from runner_provisioner.simulators.market.rest import Asked

Row = dict[str, Any]
_EARTH_MILES = 3959.0


def _number(asked: Asked, name: str) -> float | None:
    text = asked.first(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise invalid(name, "Input should be a number") from error


def _miles(executor: Executor, latitude: float, longitude: float) -> float:
    ours, theirs = math.radians(executor.latitude), math.radians(latitude)
    apart = math.radians(executor.longitude - longitude)
    chord = math.sin((ours - theirs) / 2) ** 2 + math.cos(ours) * math.cos(theirs) * math.sin(apart / 2) ** 2
    return 2 * _EARTH_MILES * math.asin(math.sqrt(chord))


def listed(executors: Iterable[Executor], asked: Asked) -> list[Executor]:
    """What `GET /executors` shows: those with something free that the query's filters leave."""
    names = {name.strip() for text in asked.query.get("machine_names", ()) for name in text.split(",") if name.strip()}
    least, most = _number(asked, "gpu_count_gte"), _number(asked, "gpu_count_lte")
    download, distance = _number(asked, "min_download_mbps"), _number(asked, "max_distance_mile")
    latitude, longitude = _number(asked, "lat"), _number(asked, "lon")
    tests: list[Callable[[Executor], bool]] = [
        lambda each: each.free > 0,
        lambda each: not names or each.machine_name in names,
        lambda each: least is None or each.gpus >= least,
        lambda each: most is None or each.gpus <= most,
        lambda each: download is None or each.download_mbps >= download,
        lambda each: asked.first("nvlink") != "true" or each.nvlink,
        lambda each: asked.first("reliable_only") != "true" or each.reliable,
    ]
    if latitude is not None and longitude is not None and distance is not None:
        tests.append(lambda each: _miles(each, latitude, longitude) <= distance)
    return [each for each in executors if all(test(each) for test in tests)]


def rentable(executor: Executor, count: int) -> bool:
    """Whether so many GPUs of it can be rented now."""
    if executor.least is None:
        return count == executor.gpus == executor.free
    return executor.least <= count <= executor.free


def fitting(executors: Iterable[Executor], wish: Row) -> list[Executor]:
    """For a rent by specification: those that meet every floor and ceiling, cheapest first."""
    count = int(wish.get("gpu_count") or 1)
    kind = _plain(str(wish.get("gpu_type") or ""))
    ceiling = wish.get("max_price_per_gpu_hour")
    floors: list[tuple[str, Callable[[Executor], float]]] = [
        ("min_vram_gb", lambda each: each.gpu_memory),
        ("min_cpus", lambda each: each.cpus),
        ("min_ram_gb", lambda each: each.ram_gb),
        ("min_disk_gb", lambda each: each.disk_gb),
        ("min_download_mbps", lambda each: each.download_mbps),
        ("min_ports", lambda each: each.ports),
    ]
    found = [
        each
        for each in executors
        if kind in _plain(each.machine_name)
        and rentable(each, count)
        and all(wish.get(name) is None or value(each) >= float(wish[name]) for name, value in floors)
        and (ceiling is None or each.price <= Decimal(str(ceiling)))
        and wish.get("country") in (None, "", each.country)
        and (not wish.get("docker_in_docker") or each.sysbox)
    ]
    return sorted(found, key=lambda each: (each.price, -each.download_mbps, each.id))


def _plain(name: str) -> str:
    return "".join(each for each in name.upper() if each.isalnum())
