"""Toy Market itself, in memory: an answer to each request, and switches that break it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from runner_provisioner.ports import Clock

KEY = "toy-planted-account-key"
BOOT = timedelta(seconds=2)
OFFERS = (
    ("toy-1", "Toy 1000", "0.30", False),
    ("toy-2", "Toy 1000", "0.10", True),
    ("toy-3", "Toy 2000", "0.90", False),
)


class ToyService:
    """One account, two models."""

    def __init__(self, clock: Clock) -> None:
        """Everything is in stock."""
        self.stock = True
        self.keys = {KEY}
        self.nonsense = False
        self.lose_next = False
        self.fail_next = False
        self.pods: dict[str, dict[str, Any]] = {}
        self._clock = clock
        self._number = 0

    def live(self) -> list[dict[str, Any]]:
        """The pods that cost money; those whose end has come are gone."""
        now = self._clock.now()
        for pod_id, pod in list(self.pods.items()):
            if pod["ends_at"] is not None and datetime.fromisoformat(pod["ends_at"]) <= now:
                del self.pods[pod_id]
        return list(self.pods.values())

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        if self.nonsense:
            return httpx.Response(200, text="<html>welcome</html>")
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.keys:
            return httpx.Response(401, json={"error": "unknown key"})
        self.live()
        path = request.url.path.strip("/").split("/")
        if path == ["offers"]:
            return httpx.Response(200, json={"offers": self._offers(int(request.url.params["count"]))})
        if path == ["pods"] and request.method == "POST":
            return self._rent(request)
        if path == ["pods"]:
            return httpx.Response(200, json={"pods": [self._shown(pod) for pod in self.pods.values()]})
        if path[-1] not in self.pods:
            return httpx.Response(404, json={"error": "no such pod"})
        if request.method == "DELETE":
            return httpx.Response(200, json=self.pods.pop(path[-1]))
        return httpx.Response(200, json=self._shown(self.pods[path[-1]]))

    def _offers(self, count: int) -> list[dict[str, Any]]:
        return [
            {"id": f"{name}x{count}", "gpu": gpu, "price": str(Decimal(price) * count), "spot": spot, "memory": 24}
            | {"stock": self.stock}
            for name, gpu, price, spot in OFFERS
        ]

    def _rent(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        if self.fail_next:
            self.fail_next = False
            return httpx.Response(500, json={"error": "internal"})
        if not self.stock:
            return httpx.Response(409, json={"error": "sold out"})
        self._number += 1
        (price,) = (one["price"] for one in self._offers(asked["count"]) if one["id"] == asked["offer"])
        pod = {
            "id": f"toypod{self._number}",
            "price": price,
            "port": 20_000 + self._number,
            "created_at": self._clock.now().isoformat(),
            **{name: asked[name] for name in ("name", "env", "ends_at")},
        }
        self.pods[pod["id"]] = pod
        if self.lose_next:
            self.lose_next = False
            raise httpx.ReadError("cut", request=request)
        return httpx.Response(201, json=self._shown(pod))

    def _shown(self, pod: dict[str, Any]) -> dict[str, Any]:
        up = self._clock.now() - datetime.fromisoformat(pod["created_at"]) >= BOOT
        return {**pod, "state": "running" if up else "booting"}
