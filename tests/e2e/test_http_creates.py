"""A create over HTTP while its service is killed or told to stop, and of several services at once; all of it real."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.e2e_steps import until
from support.postgres import Server
from support.served import House, house

from runner_provisioner.controller.serving import GRACE, ROUND
from runner_provisioner.services.once import HOLD
from runner_provisioner.services.provision import CANCEL_WINDOW
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

pytestmark = pytest.mark.usefixtures("unmeasured")

CREATE = "podFindAndDeployOnDemand"
PODS = "/api/cloud/pods"
WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
KEY = {"idempotency-key": "8a1f"}
PATIENT = {"RUNNER_PROVISIONER_REQUEST_TIMEOUT": "300"}
MANY = 8
Answers = list[httpx.Response | None]


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.full)])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; "" for a file."""
    return _new(request.getfixturevalue("postgres")) if request.param == "postgresql" else ""


def _new(server: Server) -> str:
    return anyio.run(server.new_database)


def _create(place: House, answers: Answers, url: str = "", headers: dict[str, str] = KEY) -> None:
    try:
        with place.client(url) as client:
            answers.append(client.post(PODS, json=WISH, headers=headers))
    except httpx.TransportError:
        answers.append(None)


@contextmanager
def _under_way(place: House, fault: Fault, *, rented: bool, headers: dict[str, str] = KEY) -> Iterator[Answers]:
    """A create that the provider works on; its answers afterwards."""
    market = place.world.market(RunPodSimulator)
    market.faults.add(fault)
    answers: Answers = []
    asking = threading.Thread(target=_create, args=(place, answers, "", headers))
    asking.start()
    try:
        assert fault.reached.wait(60)
        until(lambda: len(market.live()) == rented, "the create is under way")
        yield answers
    finally:
        asking.join(120)
        fault.release.set()


def _repeated(place: House) -> str:
    """The pod of the answer to the same request, sent until there is one."""
    answers: list[httpx.Response] = []

    with place.client() as client:

        def again() -> bool:
            answers.append(client.post(PODS, json=WISH, headers=KEY))
            assert answers[-1].status_code in {200, 409}, answers[-1].text
            return answers[-1].status_code == 200

        until(again, "the request is served", seconds=HOLD.total_seconds() + 60, every=0.5)
    return str(answers[-1].json()["data"]["id"])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(FaultKind.HOLD_AFTER, id="rented"),
        pytest.param(FaultKind.HANG, id="not rented", marks=pytest.mark.full),
    ],
)
def test_killed_during_a_create_and_started_again_no_pod_is_lost_or_doubled(
    tmp_path: Path, database: str, kind: FaultKind
) -> None:
    """SIGKILL while the provider works on it; the client repeats its request at the next service."""
    with house(tmp_path, "runpod") as place:
        place.database = database
        market = place.world.market(RunPodSimulator)
        first = place.serve()
        with _under_way(place, Fault(operation=CREATE, kind=kind), rented=kind is FaultKind.HOLD_AFTER) as answers:
            first.send_signal(signal.SIGKILL)
            first.wait(10)
        assert answers == [None]
        place.serve()
        pod = _repeated(place)
        assert [one.id for one in market.pods()] == [pod]
        with place.client() as client:
            listed = client.get(PODS).json()["data"]
            assert [row["id"] for row in listed["pods"]] == [pod]
            client.delete(f"{PODS}/{pod}").raise_for_status()
            assert client.get("/api/v1/pods/history").json()["data"][0]["id"] == pod
        assert not market.live()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(FaultKind.HOLD_AFTER, id="rented"),
        pytest.param(FaultKind.HOLD_BEFORE, id="not yet rented", marks=pytest.mark.full),
    ],
)
def test_told_to_stop_it_answers_the_create_that_is_under_way(tmp_path: Path, kind: FaultKind) -> None:
    """And ends then; nobody else is let in meanwhile."""
    with house(tmp_path, "runpod") as place:
        service = place.serve()
        fault = Fault(operation=CREATE, kind=kind)
        with _under_way(place, fault, rented=kind is FaultKind.HOLD_AFTER) as answers:
            service.send_signal(signal.SIGTERM)
            until(lambda: not _listens(place), "the service takes no more requests")
            assert service.poll() is None
            fault.release.set()
        assert service.wait(30) == 0
        (answer,) = answers
        assert answer is not None
        pod = answer.json()["data"]["id"]
        assert [one.id for one in place.world.market(RunPodSimulator).live()] == [pod]


def _listens(place: House) -> bool:
    try:
        with place.client() as client:
            client.get("/healthz")
    except httpx.TransportError:
        return False
    return True


def test_told_to_stop_twice_it_ends_what_the_create_has_rented(tmp_path: Path) -> None:
    """A create without a key, of which nobody else would ever hear: its pod is ended before the process is."""
    with house(tmp_path, "runpod") as place:
        place.more = PATIENT
        service = place.serve()
        with _under_way(place, Fault(operation=CREATE, kind=FaultKind.HOLD_AFTER), rented=True, headers={}) as answers:
            service.send_signal(signal.SIGTERM)
            until(lambda: not _listens(place), "the service takes no more requests")
            service.send_signal(signal.SIGTERM)
            assert service.wait(CANCEL_WINDOW + 15) == 0
        (answer,) = answers
        assert answer is not None
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert not place.world.market(RunPodSimulator).live()


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [FaultKind.HOLD_AFTER, FaultKind.HOLD_BEFORE], ids=["rented", "not yet rented"])
def test_a_create_that_outlasts_the_grace_is_one_pod_after_the_next_start(tmp_path: Path, kind: FaultKind) -> None:
    """It is cut, and its pod ended as far as there is time; the same request at the next service is one pod."""
    with house(tmp_path, "runpod") as place:
        place.more = PATIENT
        market = place.world.market(RunPodSimulator)
        service = place.serve()
        fault = Fault(operation=CREATE, kind=kind)
        with _under_way(place, fault, rented=kind is FaultKind.HOLD_AFTER) as answers:
            service.send_signal(signal.SIGTERM)
            service.wait(GRACE + 30)
            assert not market.live()
        assert [one and one.status_code for one in answers] == [503]
        place.serve()
        pod = _repeated(place)
        until(lambda: [one.id for one in market.live()] == [pod], "one pod lives", seconds=2 * ROUND)


@pytest.mark.full
def test_a_service_that_was_suspended_ends_what_it_rents_after_another_has_taken_over(
    tmp_path: Path, postgres: Server
) -> None:
    """Its create arrives while it sleeps; awake again it gives the other one's answer, and one pod lives."""
    with house(tmp_path, "runpod") as place:
        place.database, place.more = _new(postgres), PATIENT
        market = place.world.market(RunPodSimulator)
        first = place.serve()
        fault = Fault(operation=CREATE, kind=FaultKind.HOLD_BEFORE)
        with _under_way(place, fault, rented=False) as answers:
            first.send_signal(signal.SIGSTOP)
            try:
                place.serve()
                pod = _repeated(place)
                fault.release.set()
                until(lambda: len(market.live()) == 2, "the create of the one that sleeps has arrived")
            finally:
                first.send_signal(signal.SIGCONT)
        (answer,) = answers
        assert answer is not None
        assert (answer.status_code, answer.json()["data"]["id"]) == (200, pod)
        assert [one.id for one in market.live()] == [pod]


@pytest.mark.full
@pytest.mark.parametrize("services", [2, 3])
def test_one_request_sent_to_several_services_at_once_is_one_pod(
    tmp_path: Path, postgres: Server, services: int
) -> None:
    """They share a database; whoever is told to wait gets the same answer then."""
    with house(tmp_path, "runpod") as place:
        place.database = _new(postgres)
        urls = [(place.serve(), place.url)[1] for _ in range(services)]
        answers: Answers = []
        asking = [
            threading.Thread(target=_create, args=(place, answers, urls[number % services])) for number in range(MANY)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(60)
        found = [one for one in answers if one is not None]
        assert len(found) == MANY
        assert {one.status_code for one in found} <= {200, 409}
        for url in urls:
            _create(place, answers, url)
        bodies = {one.content for one in answers if one is not None and one.status_code == 200}
        (pod,) = place.world.market(RunPodSimulator).pods()
        assert [json.loads(body)["data"]["id"] for body in bodies] == [pod.id]


@pytest.mark.full
def test_while_its_database_is_away_it_is_not_ready_and_rents_nothing(tmp_path: Path, postgres: Server) -> None:
    """503 with a time to wait; it is ready as soon as the database is back."""
    with house(tmp_path, "runpod") as place:
        place.database = _new(postgres)
        place.serve()
        with place.client() as client:
            assert client.get("/readyz").status_code == 200
            postgres.stop()
            try:
                away = client.get("/readyz")
                assert (away.status_code, away.headers["retry-after"]) == (503, "10")
                assert client.get("/healthz").status_code == 200
                refused = client.post(PODS, json=WISH, headers=KEY)
                assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
                assert "cannot be reached" in refused.json()["message"]
            finally:
                postgres.start()
            until(lambda: client.get("/readyz").status_code == 200, "it is ready again")
            assert not place.world.market(RunPodSimulator).pods()
            assert client.post(PODS, json=WISH, headers=KEY).status_code == 200
