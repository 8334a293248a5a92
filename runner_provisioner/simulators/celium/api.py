"""Executors and pods: the operations of Lium's API over the simulated account, market and fleet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from runner_provisioner.simulators.celium import texts
from runner_provisioner.simulators.celium.account import Account, Attempts, Key
from runner_provisioner.simulators.celium.catalog import Executor, Market
from runner_provisioner.simulators.celium.executors import listed
from runner_provisioner.simulators.celium.fleet import Fleet
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.renting import Renting, fingerprint
from runner_provisioner.simulators.celium.texts import Refused, invalid, missing
from runner_provisioner.simulators.celium.views import Views, event_row, executor_row, written_time
from runner_provisioner.simulators.market.rest import Answer, Asked

Row = dict[str, Any]
_MINUTE = timedelta(minutes=1)
Rent = Callable[[Row, Key], Answer]


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
        self._log_of = log_of
        self._renting = Renting(fleet, market, account, views)
        self._attempts = Attempts(fleet.now, lambda: fleet.settings.rent_seconds)
        self._polled: list[datetime] = []
        self.breaking = 0
        """How many of the next rents end in an error after the pod was made."""

    def acts(self) -> list[tuple[str, str, str, Callable[[Asked], Answer]]]:
        """Method, path, name, and what answers."""
        return [
            ("GET", "/version", "version", self.version),
            ("GET", "/executors", "executors.list", self.executors),
            ("GET", "/executors/default-docker-image", "executors.images", self.default_images),
            ("GET", "/executors/deployment-estimate", "executors.estimate", self.estimate),
            ("POST", "/executors/rent-by-spec", "pods.rent_by_spec", self.rent_by_spec),
            ("GET", "/executors/{executor_id}", "executors.get", lambda asked: Answer(executor_row(self._host(asked)))),
            ("GET", "/executors/{executor_id}/quote", "executors.quote", self.quote),
            ("POST", "/executors/{executor_id}/rent", "pods.rent", self.rent),
            ("DELETE", "/executors/{executor_id}/rent", "pods.unrent", self.unrent),
            ("GET", "/machines", "machines.list", self.machines),
            ("GET", "/pods", "pods.list", self.list),
            ("GET", "/pods/{pod_id}", "pods.get", self.get),
            ("PATCH", "/pods/{pod_id}", "pods.rename", self.rename),
            ("DELETE", "/pods/{pod_id}", "pods.delete", self.delete),
            ("POST", "/pods/{pod_id}/schedule-removal", "pods.schedule", self.schedule),
            ("DELETE", "/pods/{pod_id}/schedule-removal", "pods.unschedule", self.unschedule),
            ("GET", "/pods/{pod_id}/logs", "pods.logs", self.logs),
            ("GET", "/pods/{pod_id}/events", "pods.events", self.events),
            ("GET", "/pods/{pod_id}/record", "pods.record", self.record),
            ("POST", "/pods/{pod_id}/reboot", "pods.reboot", self.reboot),
            ("PUT", "/pods/{pod_id}/switch-template", "pods.switch", self.switch),
        ]

    def key(self, asked: Asked) -> Key:
        """Who asks; it was admitted."""
        return self._account.keys[asked.headers["x-api-key"]]

    # -- executors

    def version(self, _asked: Asked) -> Answer:
        """What this server can do."""
        features = ["rent_by_spec", "rent_idempotency", "run_record"]
        return Answer({"version": "simulated", "features": features})

    def executors(self, asked: Asked) -> Answer:
        """Those with something free."""
        return Answer([executor_row(each) for each in listed(self._market.executors, asked)])

    def machines(self, _asked: Asked) -> Answer:
        """Every kind there is, free or not."""
        names = dict.fromkeys(each.machine_name for each in self._market.executors)
        return Answer([{"name": name} for name in names])

    def _host(self, asked: Asked) -> Executor:
        found = next((each for each in self._market.executors if each.id == asked.names["executor_id"]), None)
        if found is None:
            raise missing("Executor")
        return found

    def default_images(self, _asked: Asked) -> Answer:
        """What a rent without a template runs."""
        template = self._account.default_template()
        row = {"docker_image": template.docker_image, "docker_image_tag": template.docker_image_tag}
        return Answer([row])

    def estimate(self, asked: Asked) -> Answer:
        """How long a pod will take to start."""
        self._account.template(asked.first("template_id"))
        return Answer(
            {
                "estimated_seconds": int(self._fleet.settings.progress.seconds),
                "is_slow_machine": False,
                "warning_message": None,
                "is_cached_template": True,
                "docker_image_size": None,
            }
        )

    def quote(self, asked: Asked) -> Answer:
        """What so many hours would cost."""
        executor = self._host(asked)
        count = int(asked.first("gpu_count") or executor.gpus)
        hours = float(asked.first("hours") or 1)
        total = float(executor.price * count) * hours
        return Answer(
            {
                "executor_id": executor.id,
                "gpu_count": count,
                "hours": hours,
                "price_per_hour": float(executor.price * count),
                "lines": [],
                "total_usd": total,
                "pod_balance_floor_usd": 0.0,
                "allocation": None,
                "rent_balance_required_usd": float(executor.price * count),
            }
        )

    # -- renting

    def rent(self, asked: Asked) -> Answer:
        """One executor."""
        executor_id = asked.names["executor_id"]
        return self._once(asked, f"rent {executor_id}", lambda body, key: self._renting.rent(executor_id, body, key))

    def rent_by_spec(self, asked: Asked) -> Answer:
        """Whichever is the cheapest that fits."""
        return self._once(asked, "rent-by-spec", self._renting.by_spec)

    def _once(self, asked: Asked, what: str, rent: Rent) -> Answer:
        """The same Idempotency-Key rents once, and gets the same answer, refusals too."""
        body, key = asked.row(), self.key(asked)
        token = asked.headers.get("idempotency-key", "")
        if not token:
            return self._try(rent, body, key)
        same = fingerprint(what, asked.body)
        replay = self._attempts.known(token, same)
        if replay is not None:
            return replay
        self._attempts.begin(token, same)
        try:
            answer = self._try(rent, body, key)
        except Refused as refused:
            if refused.status < 500:  # noqa: PLR2004 - after an error of its own, the service knows no outcome
                self._attempts.settle(token, refused)
            raise
        self._attempts.settle(token, answer)
        return answer

    def _try(self, rent: Rent, body: Row, key: Key) -> Answer:
        answer = rent(body, key)
        if self.breaking:
            self.breaking -= 1
            raise Refused(500, "internal_error", texts.INTERNAL)
        return answer

    # -- pods

    def _polled_too_often(self) -> None:
        most, now = self._fleet.settings.polls_per_minute, self._fleet.now()
        self._polled = [at for at in self._polled if at > now - _MINUTE]
        if most is not None and len(self._polled) >= most:
            wait = (self._polled[0] + _MINUTE - now).total_seconds()
            raise Refused(429, "rate_limited", texts.TOO_MANY, headers={"retry-after": f"{wait:.0f}"})
        self._polled.append(now)

    def list(self, asked: Asked) -> Answer:
        """Pods that are not gone, late when a lag is set."""
        self._polled_too_often()
        pods = self._fleet.listed()
        for pod in pods:
            self._fleet.look(pod)
        rows = [self._views.pod(pod) for pod in pods]
        wanted = asked.first("api_key_id")
        return Answer([row for row in rows if not wanted or row["api_key_id"] == wanted])

    def _pod(self, asked: Asked) -> CeliumPod:
        pod = self._fleet.find(asked.names["pod_id"])
        if pod is None:
            raise missing("Pod")
        return pod

    def _past(self, asked: Asked) -> CeliumPod:
        """Gone or not."""
        pod = self._fleet.pods.get(asked.names["pod_id"])
        if pod is None:
            raise missing("Pod")
        return pod

    def get(self, asked: Asked) -> Answer:
        """One pod, never late."""
        self._polled_too_often()
        pod = self._pod(asked)
        self._fleet.look(pod)
        return Answer(self._views.pod(pod))

    def rename(self, asked: Asked) -> Answer:
        """Its name is all that can be changed."""
        pod, name = self._pod(asked), asked.row().get("pod_name")
        if not isinstance(name, str) or not name:
            raise invalid("pod_name", "Field required")
        pod.name = name
        return Answer(self._views.pod(pod))

    def delete(self, asked: Asked) -> Answer:
        """End it for good, or only pretend to."""
        self._end(self._pod(asked), ignored=asked.ignored)
        return Answer({"success": True})

    def unrent(self, asked: Asked) -> Answer:
        """The old way: every pod on this executor."""
        pods = [pod for pod in self._fleet.current() if pod.machine.id == asked.names["executor_id"]]
        if not pods:
            raise missing("Pod")
        for pod in pods:
            self._end(pod, ignored=asked.ignored)
        return Answer({"success": True})

    def _end(self, pod: CeliumPod, *, ignored: bool) -> None:
        if ignored:
            pod.note(self._fleet.now(), "terminate ignored")
        else:
            self._fleet.delete(pod, self._fleet.now())

    def schedule(self, asked: Asked) -> Answer:
        """The service ends it at that time."""
        pod = self._pod(asked)
        try:
            at = datetime.fromisoformat(str(asked.row().get("removal_scheduled_at")))
        except ValueError as error:
            raise invalid("removal_scheduled_at", "Input should be a valid datetime") from error
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if at <= self._fleet.now():
            raise Refused(400, "removal_in_the_past", "Removal time must be in the future")
        pod.terminate_after = at
        pod.note(self._fleet.now(), f"removal scheduled for {at.isoformat()}")
        return Answer({"success": True, "pod_id": pod.id, "removal_scheduled_at": written_time(at)})

    def unschedule(self, asked: Asked) -> Answer:
        """It stays until somebody ends it."""
        pod = self._pod(asked)
        pod.terminate_after = None
        return Answer({"success": True, "pod_id": pod.id, "removal_scheduled_at": None})

    def logs(self, asked: Asked) -> Answer:
        """The last lines of its output so far; `follow` ends there too."""
        tail = asked.first("tail", "100")
        lines = self._log_of(self._pod(asked).id).splitlines(keepends=True)
        return Answer("".join(lines[-int(tail) :] if tail.isdecimal() and int(tail) else lines))

    def events(self, asked: Asked) -> Answer:
        """Oldest first; of a pod that is gone too."""
        pod = self._past(asked)
        return Answer([event_row(pod, event) for event in pod.events])

    def record(self, asked: Asked) -> Answer:
        """What it was and cost."""
        return Answer(self._views.record(self._past(asked)))

    def reboot(self, asked: Asked) -> Answer:
        """Its container is stopped and started."""
        pod = self._pod(asked)
        self._fleet.reboot(pod, self._fleet.now())
        return Answer(self._views.pod(pod))

    def switch(self, asked: Asked) -> Answer:
        """A new container from another template."""
        pod = self._pod(asked)
        template = self._account.template(str(asked.row().get("template_id")))
        pod.template, pod.image, pod.env, pod.docker = template, template.image, dict(template.environment), None
        self._fleet.reboot(pod, self._fleet.now())
        pod.settled = False
        return Answer(self._views.pod(pod))
