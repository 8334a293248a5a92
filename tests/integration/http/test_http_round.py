"""What the service does every minute, and what it does not let anybody do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.http_service import Scene, play
from support.stages import Provider
from support.wire import Kind

from runner_provisioner.controller.route import LONGEST_READ
from runner_provisioner.services.asking import FOUND, LIMIT

PODS = "/api/v1/pods"
TEMPLATE = {"docker_image": "x/y", "name": "mine"}


def _wish(provider: str, **more: object) -> dict[str, Any]:
    return {"pod": {"name": "mine", "gpuType": "A4000_16GB", **more}, "provider": {"type": provider}}


def test_a_pod_past_its_time_is_ended_where_its_provider_does_not(tmp_path: Path) -> None:
    """Prime Intellect ends none by itself."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            await client.well("POST", PODS, json=_wish("prime", lifetimeHours=1))
            await scene.wait(3500)
            tally = await client.parts.served.round()
            assert (dict(tally.pods), len(scene.live())) == ({"prime": 1}, 1)
            assert 0 < tally.spent["prime"] <= tally.hourly["prime"]
            await scene.wait(120)
            await client.parts.served.round()
            assert not scene.live()
            (past,) = (await client.well("GET", f"{PODS}/history"))["data"]
            assert past["totalBilledPrice"] > 0
        assert [event.name for event in scene.events.events].count("pod_past_its_time") == 1

    play(tmp_path, act, Provider.PRIME)


def test_a_pod_at_a_provider_that_is_not_here_now_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    """It bills; a key was mislaid, and nobody has looked."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            pod = (await client.well("POST", PODS, json=_wish("prime")))["id"]
        there = scene.stages
        scene.stages = [one for one in there if "prime" not in one.host]
        async with scene.served() as client:
            assert "prime" not in client.parts.providers
            (told,) = (await client.well("GET", f"{PODS}/status?pod_ids={pod}"))["data"]
            assert told["status"] == "UNKNOWN"
            (row,) = (await client.well("GET", PODS))["data"]
            assert (row["id"], row["name"], row["status"], row["installationStatus"]) == (pod, "mine", "UNKNOWN", None)
            (row,) = (await client.well("GET", "/api/cloud/pods"))["data"]["pods"]
            assert (row["id"], row["desiredStatus"], row["status"]) == (pod, "UNKNOWN", "unknown")
            for method in ("GET", "DELETE"):
                answer = await client.ask(method, f"{PODS}/{pod}")
                assert (answer.status_code, "no key of prime" in answer.text) == (503, True)
        scene.stages = there
        async with scene.served() as client:
            await client.well("DELETE", f"{PODS}/{pod}")
            (told,) = (await client.well("GET", f"{PODS}/status?pod_ids={pod}"))["data"]
            assert told["status"] == "TERMINATED"

    assert not play(tmp_path, act, Provider.RUNPOD, Provider.PRIME).live()


def test_a_pod_that_ended_elsewhere_is_noted_once_two_rounds_have_missed_it(tmp_path: Path) -> None:
    """A list may lag, and one that could not be had says nothing."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish("runpod"))
            sim = scene.stages[0].sim
            with sim.lock:
                sim.fleet.terminate(sim.pod(made["id"]), scene.clock.now(), by="User")
            await client.parts.served.round()
            assert (await client.well("GET", f"{PODS}/history"))["data"] == []
            await client.parts.served.round()
            assert [row["id"] for row in (await client.well("GET", f"{PODS}/history"))["data"]] == [made["id"]]

    play(tmp_path, act)


def test_a_round_that_fails_is_told_and_the_next_one_comes(tmp_path: Path) -> None:
    """An outage ends nothing and notes no end."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            await client.well("POST", PODS, json=_wish("runpod"))
        async with scene.served(rule=lambda _sent: Kind.ERROR) as client:
            for _ in range(3):
                await client.parts.served.round()
        assert [one.ended_at for one in scene.state.kept_pods.kept.values()] == [None]

    play(tmp_path, act)


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/stop"), ("POST", "/resume")], ids=str)
def test_a_pod_of_somebody_else_is_shown_and_left_alone(tmp_path: Path, method: str, path: str) -> None:
    """One of the account that this installation did not make by hand: 403."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish("runpod"))
            pod = scene.stages[0].sim.pod(made["id"])
            pod.env["RP_OWNER"] = "ffffffff"
            scene.state.kept_pods.kept.clear()
            assert (await client.well("GET", PODS))["total_count"] == 1
            answer = await client.ask(method, f"/api/cloud/pods/{pod.id}{path}")
            assert answer.status_code == 403
            assert len(scene.live()) == 1

    play(tmp_path, act)


OUTAGES = {
    "500": (Kind.ERROR, 502),
    "no answer": (Kind.DROP_BEFORE, 503),
    "refused": (Kind.REFUSED, 503),
    "limited": (Kind.LIMITED, 503),
    "nonsense": (Kind.MALFORMED, 502),
}


@pytest.mark.parametrize(("kind", "status"), OUTAGES.values(), ids=OUTAGES)
def test_an_outage_of_a_provider_is_502_or_503_with_a_time_to_wait(tmp_path: Path, kind: Kind, status: int) -> None:
    """On every read of every contract, in its own shape, and without the provider's key in it."""
    paths = ["/api/cloud/pods", "/api/cloud/pods/x", "/machines/x", PODS, f"{PODS}/x"]

    async def act(scene: Scene) -> None:
        async with scene.served(rule=lambda _sent: kind) as client:
            for path in paths:
                answer = await client.ask("GET", path)
                assert (path, answer.status_code) == (path, status)
                assert int(answer.headers["retry-after"]) >= 1
                assert ("message" if "cloud" in path else "detail") in answer.json()
                assert scene.stages[0].key not in answer.text

    play(tmp_path, act)


@pytest.mark.parametrize(("service", "title"), [("runpod", "RunPod"), ("celium", "Lium")], ids=["runpod", "lium"])
def test_a_list_that_would_lack_pods_is_an_error_that_names_the_provider(
    tmp_path: Path, service: str, title: str
) -> None:
    """Who takes an absent pod for gone would rent another; of single pods and of those elsewhere can be asked."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish("runpod" if service == "celium" else "celium"))
        async with scene.served(rule=lambda sent: Kind.ERROR if sent.service == service else Kind.PASS) as client:
            for path in ("/api/cloud/pods", PODS):
                answer = await client.ask("GET", path)
                assert (answer.status_code, title in answer.text) == (502, True)
            assert (await client.well("GET", f"{PODS}/{made['id']}"))["id"] == made["id"]
            (row,) = (await client.well("GET", f"{PODS}/status", params={"pod_ids": made["id"]}))["data"]
            assert row["status"] != "UNKNOWN"

    play(tmp_path, act, Provider.RUNPOD, Provider.LIUM)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside another"])
def test_a_provider_that_never_answers_costs_no_read_a_minute(tmp_path: Path, *, alone: bool) -> None:
    """Proxies give up then: the error names it, and when to come again; what another one has is told at once.

    Nor a create that would have to ask it for its offers.
    """
    paths = ["/api/cloud/pods", PODS, "/api/cloud/pods/x", "/machines/x", f"{PODS}/x", f"{PODS}/x/logs"]

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            pod = (await client.well("POST", PODS, json=_wish("celium" if alone else "runpod")))["id"]
            template = (await client.well("POST", "/machines/template", json=TEMPLATE))["id"]

        async def asked(path: str, method: str = "GET", **more: object) -> tuple[httpx.Response, float]:
            begin = scene.clock.monotonic()
            answer = await client.ask(method, path, **more)
            return answer, round(scene.clock.monotonic() - begin, 3)

        hung = "celium" if alone else "runpod"
        async with scene.served(rule=lambda sent: Kind.HANG if sent.service == hung else Kind.PASS) as client:
            for path in [*paths, *([f"{PODS}/{pod}/logs", "/machines/", "/machines/template/x"] if alone else ())]:
                answer, seconds = await asked(path)
                assert (path, answer.status_code) == (path, 503)
                assert (hung in answer.text, seconds) == (True, LIMIT)
                assert int(answer.headers["retry-after"]) >= 1
            if alone:
                wish = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA A100", "provider": hung}
                answer, seconds = await asked("/api/cloud/pods", "POST", json=wish)
                assert (answer.status_code, hung in answer.text, seconds) == (503, True, LIMIT)
            answer, seconds = await asked(f"{PODS}/status?pod_ids={pod}")
            assert ([row["status"] for row in answer.json()["data"]], seconds) == (["UNKNOWN"], LIMIT)
            if not alone:
                answer, seconds = await asked("/machines/")
                assert (answer.headers["x-not-asked"], seconds) == (hung, LIMIT)
                answer, seconds = await asked(f"/machines/template/{template}")
                assert (answer.status_code, seconds) == (200, FOUND)
        hung = "celium"
        async with scene.served(rule=lambda sent: Kind.HANG if sent.service == hung else Kind.PASS) as client:
            scene.state.kept_pods.kept.clear()
            if not alone:
                answer, seconds = await asked(f"{PODS}/{pod}")
                assert (answer.status_code, seconds) == (200, FOUND)

    play(tmp_path, act, Provider.LIUM, *([] if alone else [Provider.RUNPOD]))


def test_a_read_ends_in_time_whatever_it_is_made_of(tmp_path: Path) -> None:
    """A database that hangs, for one."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            client.parts.served.all = anyio.sleep_forever  # type: ignore[method-assign, assignment]
            answer = await client.ask("GET", PODS)
            assert (answer.status_code, scene.clock.monotonic()) == (503, LONGEST_READ)
            assert int(answer.headers["retry-after"]) >= 1

    play(tmp_path, act)


def test_a_pod_that_the_database_has_lost_says_when_it_ends(tmp_path: Path) -> None:
    """Its tags do, in every contract."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            pod = (await client.well("POST", PODS, json=_wish("runpod")))["id"]
            paths = (f"{PODS}/{pod}", f"/machines/{pod}", f"/api/cloud/pods/{pod}")
            before = [await client.well("GET", path) for path in paths]
            scene.state.kept_pods.kept.clear()
            after = [await client.well("GET", path) for path in paths]
            for names in (("expiresAt",), ("expires_at",), ("data", "expiresAt")):
                told, now = before.pop(0), after.pop(0)
                for name in names:
                    told, now = told[name], now[name]
                assert now == told is not None

    play(tmp_path, act)


def test_what_nobody_expected_is_a_500_that_tells_nothing(tmp_path: Path) -> None:
    """In the shape of its contract; the log tells more."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:

            async def broken() -> None:
                raise LookupError("planted-value")

            client.parts.served.all = broken  # type: ignore[method-assign, assignment]
            for path, name in (("/api/cloud/pods", "message"), (PODS, "detail")):
                answer = await client.ask("GET", path)
                assert (answer.status_code, "planted" in answer.text) == (500, False)
                assert "internal error" in answer.json()[name]

    play(tmp_path, act)


def test_a_path_that_is_none_is_told_in_the_shape_of_its_contract(tmp_path: Path) -> None:
    """404 and 405."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for path, method, status in (
                ("/api/cloud/nothing", "GET", 404),
                ("/api/cloud/pods", "PUT", 405),
                ("/api/v1/nothing", "GET", 404),
                ("/", "GET", 404),
            ):
                answer = await client.ask(method, path)
                assert (path, answer.status_code) == (path, status)
                assert ("message" if "cloud" in path else "detail") in answer.json()

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/pods", "GET, POST"),
        ("/machines/", "GET, POST"),
        ("/api/cloud/pods/x/", "DELETE, GET"),
        ("/api/cloud/pods/x/stop", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/metrics", "GET"),
    ],
)
def test_a_method_that_is_none_is_told_all_that_are(tmp_path: Path, path: str, allowed: str) -> None:
    """Whatever routes there are of that path, the header Allow names the methods of all of them."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for method in ("PUT", "OPTIONS"):
                answer = await client.ask(method, path)
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
            if path.startswith("/api/cloud"):
                assert answer.json()["error"]["type"] == "MethodNotAllowed"

    play(tmp_path, act)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_who_only_wants_to_know_that_it_runs_may_ask_for_the_head(tmp_path: Path, path: str) -> None:
    """As load balancers do."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            assert (await client.ask("HEAD", path)).status_code == 200

    play(tmp_path, act)


HOUR = timedelta(hours=1)
