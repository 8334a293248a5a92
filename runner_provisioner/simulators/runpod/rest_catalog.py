"""The catalogue of REST v2: GPU models, data centres, CPUs, with what is free of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runner_provisioner.simulators.runpod.catalog import Center, GpuModel
from runner_provisioner.simulators.runpod.market import Market, Wish
from runner_provisioner.simulators.runpod.rest_call import Problem, RestCall, RestReply
from runner_provisioner.simulators.runpod.rest_rows import gpu_row

Row = dict[str, Any]
_ONLY_WITH = ("product", "count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion")
_CLOUDS = {"SECURE": True, "COMMUNITY": False}
_PRODUCTS = frozenset({"POD", "CLUSTER", "SERVERLESS"})
_PATTERNS = {
    "countryCodes": re.compile(r"[A-Z]{2}(,[A-Z]{2})*"),
    "cudaVersions": re.compile(r"\d+\.\d+(,\d+\.\d+)*"),
    "minCudaVersion": re.compile(r"\d+(\.\d+)?"),
    "count": re.compile(r"[1-9]\d*"),
    "cloud": re.compile(r"SECURE|COMMUNITY"),
}
_REGIONS = {"US": "NORTH_AMERICA", "CA": "NORTH_AMERICA", "RO": "EUROPE"}


class RestCatalog:
    """Answers under the simulator's lock."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def gpus(self, call: RestCall) -> RestReply:
        """All models; those without a data centre in the wanted countries are left out."""
        call.caller.need_account()
        asked = _asked(call.query)
        rows = [self._gpu(model, asked) for model in self._market.catalog.models]
        countries = asked is not None and asked.get("countryCodes")
        return RestReply(200, {"gpus": [row for row in rows if not countries or "dataCenters" in row]})

    def gpu(self, call: RestCall) -> RestReply:
        """One model."""
        call.caller.need_account()
        model = self._market.model(call.parts[0])
        if model is None:
            raise Problem(404, "GPU type not found")
        return RestReply(200, self._gpu(model, _asked(call.query)))

    def data_centers(self, call: RestCall) -> RestReply:
        """All data centres, with what is free there when that is asked for."""
        call.caller.need_account()
        regions = call.query.get("regions", "").split(",") if call.query.get("regions") else None
        free = "GPU_AVAILABILITY" in call.query.get("include", "").split(",")
        rows = [self._center(each, free=free) for each in self._market.catalog.centers]
        return RestReply(200, {"dataCenters": [row for row in rows if regions is None or row["region"] in regions]})

    def cpus(self, call: RestCall) -> RestReply:
        """One flavour, which cannot be rented here."""
        call.caller.need_account()
        price = {"securePerVcpu": 0.03, "serverlessPerVcpu": 0.03}
        flavour = {"id": "cpu3c", "name": "Compute-Optimized", "group": "Gen 3", "vcpu": {"min": 2, "max": 32}}
        return RestReply(200, {"cpus": [{**flavour, "ramGbPerVcpu": 2.0, "price": price}]})

    def templates(self, call: RestCall) -> RestReply:
        """No public ones."""
        call.caller.need_account()
        return RestReply(200, {"templates": []})

    def _gpu(self, model: GpuModel, asked: Row | None) -> Row:
        row = gpu_row(model)
        if asked is None:
            return row
        centers = self._centers(model, asked)
        if centers:
            row["dataCenters"] = centers
        total = self._total(model, asked)
        versions = [{"version": each["cudaVersion"], "available": True} for each in total["gpuTypeCudaVersions"]]
        # Wherever countries are named, only what lies there counts.
        best = [each["availability"] for each in centers] if asked["countryCodes"] else [_level(total["stockStatus"])]
        row["availability"] = max(best, key=_LEVELS.index, default="NONE")
        return {**row, "cudaVersions": versions} if versions else row

    def _centers(self, model: GpuModel, asked: Row) -> list[Row]:
        found = []
        for center in self._market.catalog.centers:
            if asked["countryCodes"] and center.country not in asked["countryCodes"]:
                continue
            level = _level(self._total(model, {**asked, "dataCenterId": center.id})["stockStatus"])
            if level != "NONE":
                found.append({"id": center.id, "name": center.name, "availability": level})
        return found

    def _total(self, model: GpuModel, asked: Row) -> Row:
        return self._market.lowest_price(model, Wish.read([model.id], asked, secure=asked["secure"]))

    def _center(self, center: Center, *, free: bool) -> Row:
        row: Row = {
            "id": center.id,
            "name": center.name,
            "region": _REGIONS.get(center.country, "UNKNOWN"),
            "networkVolumeTypes": ["STANDARD"],
            "compliance": [],
            "globalNetwork": False,
        }
        if not free:
            return row
        levels = [(model, self._level_at(model, center)) for model in self._market.catalog.models]
        return {
            **row,
            "gpuAvailability": [
                {"id": model.id, "name": model.display_name, "availability": level} for model, level in levels
            ],
        }

    def _level_at(self, model: GpuModel, center: Center) -> str:
        return _level(self._total(model, {"dataCenterId": center.id, "secure": None})["stockStatus"])


_LEVELS: Sequence[str] = ("NONE", "LOW", "MEDIUM", "HIGH")


def _level(stock: str | None) -> str:
    return "NONE" if stock is None else stock.upper()


def _asked(query: Mapping[str, str]) -> Row | None:
    """The filters of an availability in the names of the market; None when none was asked for. Raises Problem."""
    if "include" not in query:
        for name in _ONLY_WITH:
            if name in query:
                raise Problem(400, f"{name} is valid only with include=AVAILABILITY")
        return None
    if query["include"] != "AVAILABILITY":
        raise Problem(422, "Request validation failed.", ["include: value must be one of AVAILABILITY"])
    products = query.get("product", "")
    if not products:
        raise Problem(400, "product is required with include=AVAILABILITY")
    wrong = [name for name, pattern in _PATTERNS.items() if name in query and not pattern.fullmatch(query[name])]
    wrong += [] if set(products.split(",")) <= _PRODUCTS else ["product"]
    if wrong:
        raise Problem(422, "Request validation failed.", [f"{name}: has an invalid value" for name in wrong])
    if "cudaVersions" in query and "minCudaVersion" in query:
        raise Problem(400, "cudaVersions and minCudaVersion are mutually exclusive")
    return {
        "gpuCount": int(query.get("count", "1")),
        "secure": _CLOUDS[query.get("cloud", "SECURE")],
        "countryCodes": query["countryCodes"].split(",") if "countryCodes" in query else [],
        "minCudaVersion": query.get("minCudaVersion", ""),
        "allowedCudaVersions": query["cudaVersions"].split(",") if "cudaVersions" in query else [],
    }
