"""From the body of a rent to a pod."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.celium import texts
from runner_provisioner.simulators.celium.account import Account, Key, Template
from runner_provisioner.simulators.celium.catalog import Executor, Market
from runner_provisioner.simulators.celium.executors import fitting, rentable
from runner_provisioner.simulators.celium.fleet import Fleet
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.settings import RentAnswer
from runner_provisioner.simulators.celium.texts import Refused, invalid, missing
from runner_provisioner.simulators.celium.views import Views, executor_row
from runner_provisioner.simulators.market.rest import Answer

Row = dict[str, Any]
_LONGEST_HOURS = 720
BUILT = "dockerfile"
"""The image of a pod that was built from a Dockerfile."""


def whole(body: Row, name: str, *, least: int, most: int | None = None) -> int | None:
    """A number, which may come as text; Refused (422)."""
    value = body.get(name)
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        raise invalid(name, f"Input should be an integer from {least}" + (f" to {most}" if most else ""))
    return int(text)


class Renting:
    """Checks a rent against the market, the account and its money, and makes the pod."""

    def __init__(self, fleet: Fleet, market: Market, account: Account, views: Views) -> None:
        self._fleet = fleet
        self._market = market
        self._account = account
        self._views = views

    def rent(self, executor_id: str, body: Row, key: Key) -> Answer:
        """The pod, or the short answer."""
        self._check(body)
        executor = next((each for each in self._market.executors if each.id == executor_id), None)
        if executor is None:
            raise missing("Executor")
        pod = self._make(executor, body, key)
        return self._answer(pod)

    def _answer(self, pod: CeliumPod) -> Answer:
        if self._fleet.settings.rent_answer is RentAnswer.SHORT:
            return Answer({"success": True, "pod_id": pod.id})
        return Answer(self._views.pod(pod))

    def by_spec(self, body: Row, key: Key) -> Answer:
        """The cheapest executor that fits, rented unless it is a dry run."""
        self._check(body)
        found = fitting(self._market.executors, body)
        if not found:
            raise Refused(404, "no_matching_executor", "No executor matches: none is available for this specification")
        count = int(body.get("gpu_count") or 1)
        template = self._template(body)
        dry = bool(body.get("dry_run"))
        pod = None if dry else self._make(found[0], {**body, "gpu_count": count}, key)
        return Answer(
            {
                "selected_executor": executor_row(found[0]),
                "pod_id": pod.id if pod else None,
                "price_per_hour": float(found[0].price * count),
                "template_id": template.id if template else None,
                "candidates": len(found),
                "attempts": 0 if dry else 1,
                "alternatives_considered": [{"executor_id": each.id} for each in found[1:]],
                "dry_run": dry,
            }
        )

    def _check(self, body: Row) -> None:
        if not isinstance(body.get("pod_name"), str) or not body["pod_name"]:
            raise invalid("pod_name", "Field required")
        keys = body.get("user_public_key")
        if not isinstance(keys, list) or not keys or not all(isinstance(each, str) and each.strip() for each in keys):
            raise invalid("user_public_key", "List should have at least 1 item")
        if body.get("template_id") and body.get("dockerfile_content"):
            raise invalid("template_id", "Give a template or a Dockerfile, not both")
        whole(body, "gpu_count", least=1)
        whole(body, "termination_hours", least=1, most=_LONGEST_HOURS)
        if body.get("volume_id") and body["volume_id"] not in self._account.volumes:
            raise missing("Volume")

    def _template(self, body: Row) -> Template | None:
        """None for a Dockerfile."""
        if body.get("dockerfile_content"):
            return None
        template = (
            self._account.template(str(body["template_id"]))
            if body.get("template_id")
            else self._account.default_template()
        )
        if template.status == "VERIFY_FAILED":
            raise Refused(400, "template_not_verified", "Template verification failed")
        return template

    def _make(self, executor: Executor, body: Row, key: Key) -> CeliumPod:
        template = self._template(body)
        count = whole(body, "gpu_count", least=1) or (executor.gpus if executor.least is None else executor.free)
        if not executor.free or count > executor.free:
            raise Refused(400, "executor_not_available", texts.RENTED)
        if not rentable(executor, count):
            raise invalid("gpu_count", "This executor rents as a whole, or in larger parts")
        self._afford(executor.price * count, key)
        pod = self._pod(executor, body, template, count, key)
        self._fleet.rent(pod)
        return pod

    def _afford(self, price: Decimal, key: Key) -> None:
        """One hour of it: from the balance, and within what the key may spend."""
        facts: Row
        balance = self._fleet.balance()
        if balance < price:
            facts = {"required": float(price), "available": float(balance)}
            message = texts.NO_BALANCE.format(price, balance)
            raise Refused(403, "insufficient_balance", message, data=facts)
        now = self._fleet.now()
        spent = sum(
            (pod.meter.cost(now) for pod in self._fleet.pods.values() if pod.rented_with == key.value), Decimal(0)
        )
        if key.budget is not None and spent + price > key.budget:
            facts = {
                "window": "max",
                "budget_usd": float(key.budget),
                "spent_usd": float(spent),
                "api_key_id": key.id,
            }
            raise Refused(402, "API_KEY_BUDGET_EXCEEDED", texts.OVER_BUDGET, data=facts)

    def _pod(self, executor: Executor, body: Row, template: Template | None, count: int, key: Key) -> CeliumPod:
        now = self._fleet.now()
        hours = whole(body, "termination_hours", least=1, most=_LONGEST_HOURS)
        used = template or Template(
            id="", name=BUILT, docker_image=BUILT, docker_image_tag="", one_time=False, created_at=now
        )
        return CeliumPod(
            id=str(uuid.uuid4()),
            name=body["pod_name"],
            image=used.image,
            env=dict(used.environment),
            gpu_count=count,
            machine=executor,
            template=used,
            price_per_gpu=executor.price,
            keys=tuple(body["user_public_key"]),
            volume_id=body.get("volume_id"),
            dockerfile=body.get("dockerfile_content"),
            rented_with=key.value,
            given=dict(body),
            created_at=now,
            last_started_at=now,
            terminate_after=now + timedelta(hours=hours) if hours else None,
        )


def fingerprint(path: str, body: object) -> str:
    """What makes two rents the same request."""
    return f"{path} {json.dumps(body, sort_keys=True)}"
