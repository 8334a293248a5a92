"""What Prometheus may read: requests, calls of providers, errors, limits, money. Never a series for one pod or job."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runner_provisioner._metrics import CallMetrics

_QUICK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MOST_WORDS: Final = 200  # of outcomes: some are the providers' own, and nobody knows how many there are
OTHER: Final = "other"


class Metrics:
    """The series of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "runner_provisioner_request_seconds",
            "Requests of the service, by operation and status.",
            ("operation", "status"),
            registry=self.registry,
            buckets=_QUICK,
        )
        self.errors = Counter(
            "runner_provisioner_errors",
            "Requests that ended with an error, by its class.",
            ("operation", "error"),
            registry=self.registry,
        )
        self.calls = Histogram(
            "runner_provisioner_provider_call_seconds",
            "Calls of providers, by operation and outcome.",
            ("service", "operation", "outcome"),
            registry=self.registry,
            buckets=_QUICK,
        )
        self.remaining = Gauge(
            "runner_provisioner_rate_limit_remaining",
            "Calls that a service still allows, by its last word.",
            ("service",),
            registry=self.registry,
        )
        self.pods = Gauge(
            "runner_provisioner_pods",
            "Pods of the service that bill now; those that nobody can look at as they are remembered.",
            ("provider",),
            registry=self.registry,
        )
        self.hourly = Gauge(
            "runner_provisioner_spend_usd_per_hour",
            "What the pods of the service cost now.",
            ("provider",),
            registry=self.registry,
        )
        self.spent = Gauge(
            "runner_provisioner_spend_usd",
            "What all pods that the service remembers have cost until now; most are forgotten after 400 days.",
            ("provider",),
            registry=self.registry,
        )

    def request(self, operation: str, status: int, seconds: float, error: str = "") -> None:
        """One request has been answered."""
        self.requests.labels(operation, str(status)).observe(seconds)
        if error:
            self.errors.labels(operation, error).inc()

    def spend(self, *, pods: Mapping[str, int], hourly: Mapping[str, Decimal], spent: Mapping[str, Decimal]) -> None:
        """What the last look at the pods has shown, by provider."""
        for gauge, found in ((self.pods, pods), (self.hourly, hourly), (self.spent, spent)):
            gauge.clear()
            for provider, value in found.items():
                gauge.labels(provider).set(float(value))

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class MeteredCalls(CallMetrics):
    """Counts the program's remote calls for Prometheus, too."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._outcomes: set[str] = set()

    def record(
        self, service: str, operation: str, outcome: str, seconds: float, *, failed: bool | None = None
    ) -> str | None:
        """See CallMetrics."""
        if outcome not in self._outcomes and len(self._outcomes) < _MOST_WORDS:
            self._outcomes.add(outcome)
        word = outcome if outcome in self._outcomes else OTHER
        self._metrics.calls.labels(service, operation, word).observe(seconds)
        return super().record(service, operation, outcome, seconds, failed=failed)

    def limited(self, service: str, remaining: int) -> None:
        """See CallMetrics."""
        self._metrics.remaining.labels(service).set(remaining)
