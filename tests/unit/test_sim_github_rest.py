"""The simulated GitHub over REST: runners, groups, pages, limits, redirects, faults."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github import rest_apps, rest_runners, rest_runs, validation
from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.rest import Reply, Rest, Route
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.serving import ConnectionCut, Loopback
from runner_provisioner.testing.clock import FakeClock

REPO = "/repos/octo/hello/actions/runners"
ORG = "/orgs/acme/actions/runners"
JIT = {"name": "jit-1", "runner_group_id": 1, "labels": ["a"]}


@pytest.fixture
def clock() -> FakeClock:
    """Time of the simulated world."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> GitHubSimulator:
    """One repository of a user, two of an organisation, a token that may do everything."""
    sim = GitHubSimulator(clock)
    sim.add_organisation("acme")
    sim.add_repository("octo/hello")
    sim.add_repository("acme/tool")
    sim.add_repository("acme/open", private=False)
    sim.add_token("ghp_owner")
    return sim


@pytest.fixture
async def client(sim: GitHubSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client with that token."""
    transport = httpx.ASGITransport(app=sim.app)
    head = {"authorization": "Bearer ghp_owner"}
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test", headers=head) as client:
        yield client


@pytest.mark.parametrize("place", [REPO, ORG], ids=["repository", "organisation"])
@pytest.mark.parametrize("purpose", ["registration", "remove"])
async def test_runner_tokens_last_an_hour(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock, place: str, purpose: str
) -> None:
    """Good for their own purpose and for any number of uses until then."""
    token = (await client.post(f"{place}/{purpose}-token")).json()["token"]
    assert sim.world.credentials.runner_token(token, purpose).value == token
    clock.advance(3600)
    with pytest.raises(ApiError) as caught:
        sim.world.credentials.runner_token(token, purpose)
    assert caught.value.status == 401
    assert sim.violations == []


async def test_runners_are_listed_by_page_and_by_name(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """Thirty a page unless asked otherwise, at most a hundred, with links; the name filter is exact."""
    for number in range(105):
        sim.play_runner("octo/hello", f"r{number}", ["self-hosted", "x"], online=number == 0)
    first = await client.get(REPO)
    assert len(first.json()["runners"]) == 30
    assert first.json()["total_count"] == 105
    assert first.links["next"]["url"] == f"http://github.test{REPO}?page=2"
    assert first.links["last"]["url"].endswith("page=4")
    last = await client.get(REPO, params={"per_page": 500, "page": 2})
    assert [runner["name"] for runner in last.json()["runners"]] == [f"r{number}" for number in range(100, 105)]
    assert set(last.links) == {"prev", "first"}
    named = (await client.get(REPO, params={"name": "r0"})).json()
    assert [runner["status"] for runner in named["runners"]] == ["online"]
    assert [label["type"] for label in named["runners"][0]["labels"]] == ["read-only", "custom"]
    assert sim.violations == []


async def test_a_runner_is_read_and_deleted_by_number(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """204 once, 404 from then on, 404 in another scope, 404 for what is no number."""
    runner = sim.play_runner("octo/hello", "r", ["x"])
    path = f"{REPO}/{runner.id}"
    assert (await client.get(path)).json()["name"] == "r"
    assert (await client.get(f"{path}/labels")).json()["total_count"] == 1
    assert (await client.delete(f"{ORG}/{runner.id}")).status_code == 404
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert (await client.get(path)).status_code == 404
    assert sim.violations == []
    assert (await client.get(f"{REPO}/abc")).status_code == 404
    assert len(sim.violations) == 1


async def test_a_busy_runner_is_not_deleted(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """422 while it has a job; afterwards an ephemeral runner has gone by itself."""
    runner = sim.play_runner("octo/hello", "r", ["x"])
    sim.queue_job("octo/hello", ["x"])
    sim.play_take(runner)
    refused = await client.delete(f"{REPO}/{runner.id}")
    assert refused.status_code == 422
    assert "still running a job" in refused.json()["message"]
    sim.play_finish(runner)
    assert (await client.get(f"{REPO}/{runner.id}")).status_code == 404
    assert sim.violations == []


async def test_a_runner_may_stay_busy_for_a_while_after_its_job(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """With a release lag the registration outlives the job by that long."""
    sim.settings.release_lag = 5
    runner = sim.play_runner("octo/hello", "r", ["x"])
    sim.queue_job("octo/hello", ["x"])
    sim.play_take(runner)
    sim.play_finish(runner)
    assert (await client.delete(f"{REPO}/{runner.id}")).status_code == 422
    clock.advance(5)
    assert (await client.get(REPO)).json()["total_count"] == 0


@pytest.mark.parametrize(("ephemeral", "days"), [(True, 1), (False, 14)], ids=["ephemeral-a-day", "others-two-weeks"])
async def test_offline_runners_are_removed_in_time(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock, days: int, *, ephemeral: bool
) -> None:
    """Time alone removes a registration nobody uses."""
    sim.play_runner("octo/hello", "r", online=False, ephemeral=ephemeral)
    clock.advance(days * 86400 - 1)
    assert (await client.get(REPO)).json()["total_count"] == 1
    clock.advance(1)
    assert (await client.get(REPO)).json()["total_count"] == 0


async def test_a_jit_configuration_is_made_once_per_name_and_spoils(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """A second request for the name is 409; unused, the runner disappears after five minutes."""
    made = await client.post(f"{REPO}/generate-jitconfig", json=JIT)
    files = json.loads(base64.b64decode(made.json()["encoded_jit_config"]))
    assert json.loads(base64.b64decode(files[".runner"]))["AgentName"] == "jit-1"
    again = await client.post(f"{REPO}/generate-jitconfig", json=JIT)
    assert again.status_code == 409
    assert "already exists" in again.json()["message"]
    assert (await client.post(f"{ORG}/generate-jitconfig", json=JIT)).status_code == 201
    assert (await client.post(f"{ORG}/generate-jitconfig", json=JIT | {"runner_group_id": 9})).status_code == 404
    clock.advance(300)
    assert (await client.get(REPO)).json()["total_count"] == 0
    assert sim.violations == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"name": 5}', 422), (b"{", 400), (b"", 422), (b'{"name":"x","runner_group_id":1,"labels":[]}', 422)],
    ids=["wrong-type", "no-json", "nothing", "no-labels"],
)
async def test_a_request_outside_the_schema_is_refused_and_noted(
    client: httpx.AsyncClient, sim: GitHubSimulator, content: bytes, status: int
) -> None:
    """The client hears of it as from GitHub, the test hears of it in `violations`."""
    answer = await client.post(f"{REPO}/generate-jitconfig", content=content)
    assert answer.status_code == status
    assert len(sim.violations) == 1


async def test_downloads_name_the_stand_in_with_its_hash(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """Both architectures; what is downloaded has the hash that was promised."""
    for entry in (await client.get(f"{REPO}/downloads")).json():
        archive = await client.get(entry["download_url"])
        assert hashlib.sha256(archive.content).hexdigest() == entry["sha256_checksum"]
        assert entry["filename"] == f"actions-runner-linux-{entry['architecture']}-2.338.0.tar.gz"
    missing = await client.get("/actions/runner/releases/download/v1.0.0/actions-runner-linux-x64-1.0.0.tar.gz")
    assert missing.status_code == 404
    assert sim.violations == []


async def test_runner_groups_are_seen_by_the_repositories_they_are_for(
    client: httpx.AsyncClient, sim: GitHubSimulator
) -> None:
    """A group for one repository is invisible to the other; a private-only group to a public one."""
    chosen = sim.add_group("acme", "gpu", repositories=["acme/open"])
    sim.add_group("acme", "inner", allows_public=False)
    groups = "/orgs/acme/actions/runner-groups"
    seen = {}
    for name in ("tool", "open"):
        answer = await client.get(groups, params={"visible_to_repository": name})
        seen[name] = [group["name"] for group in answer.json()["runner_groups"]]
    assert seen == {"tool": ["Default", "inner"], "open": ["Default", "gpu"]}
    assert (await client.get(groups)).json()["total_count"] == 3
    assert (await client.get(f"{groups}/{chosen.id}")).json()["visibility"] == "selected"
    assert (await client.get(f"{groups}/99")).status_code == 404
    sim.play_runner("acme", "r")
    assert (await client.get(f"{groups}/1/runners")).json()["total_count"] == 1
    assert (await client.get("/orgs/octo/actions/runner-groups")).status_code == 404
    assert sim.violations == []


async def test_a_renamed_repository_redirects(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """301 to the address by number, which works; 307 for what writes."""
    sim.rename_repository("octo/hello", "bye")
    moved = await client.get("/repos/octo/hello")
    assert moved.status_code == 301
    assert (await client.get(moved.headers["location"])).json()["full_name"] == "octo/bye"
    assert (await client.post(f"{REPO}/registration-token")).status_code == 307
    assert (await client.post(f"{REPO}/registration-token", follow_redirects=True)).status_code == 201
    assert (await client.get("/repositories/1")).status_code == 404
    assert sim.violations == []


async def test_the_hourly_limit_is_counted_and_resets(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """403 with nothing remaining, and the moment when it will be better; reading the limits is free."""
    sim.settings.core_limit = 2
    assert (await client.get(REPO)).headers["x-ratelimit-remaining"] == "1"
    assert (await client.get(REPO)).headers["x-ratelimit-remaining"] == "0"
    over = await client.get(REPO)
    assert over.status_code == 403
    assert over.headers["x-ratelimit-remaining"] == "0"
    limits = (await client.get("/rate_limit")).json()
    assert limits["rate"] == {
        "limit": 2,
        "remaining": 0,
        "used": 2,
        "reset": int(over.headers["x-ratelimit-reset"]),
    }
    clock.advance(3600)
    assert (await client.get(REPO)).status_code == 200
    assert sim.violations == []


async def test_the_secondary_limit_counts_points_a_minute(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Reads cost one point, writes five; the answer says how long to wait."""
    sim.settings.secondary_points = 6
    assert (await client.post(f"{REPO}/registration-token")).status_code == 201
    assert (await client.get(REPO)).status_code == 200
    over = await client.get(REPO)
    assert (over.status_code, over.headers["retry-after"]) == (403, "60")
    clock.advance(61)
    assert (await client.get(REPO)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"user-agent": ""}, 403), ({"x-github-api-version": "1999-01-01"}, 400), ({}, 404)],
    ids=["no-user-agent", "no-such-version", "no-such-path"],
)
async def test_requests_that_github_would_not_take(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A missing agent, an unknown version, an unknown path."""
    assert (await client.get("/no/such/path", headers=headers)).status_code == status


async def test_the_enterprise_address_is_the_same_api(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """`/api/v3` works too, and the links keep it."""
    for number in range(2):
        sim.play_runner("octo/hello", f"r{number}")
    answer = await client.get(f"/api/v3{REPO}", params={"per_page": 1})
    assert answer.links["next"]["url"] == f"http://github.test/api/v3{REPO}?per_page=1&page=2"
    assert sim.violations == []


@pytest.mark.parametrize(
    ("kind", "left"),
    [(FaultKind.DROP_BEFORE, 0), (FaultKind.DROP_AFTER, 1)],
    ids=["nothing-done", "done-and-lost"],
)
async def test_a_cut_connection_has_done_the_thing_or_not(
    client: httpx.AsyncClient, sim: GitHubSimulator, kind: FaultKind, left: int
) -> None:
    """The runner of a lost answer exists."""
    sim.order(Fault(operation="generate-jitconfig", kind=kind))
    with pytest.raises(ConnectionCut):
        await client.post(f"{REPO}/generate-jitconfig", json=JIT)
    assert len(sim.runners("octo/hello")) == left


async def test_faults_are_ordered_by_operation_and_calls_are_counted(
    client: httpx.AsyncClient, sim: GitHubSimulator
) -> None:
    """Only the named operation fails, as often as ordered."""
    sim.order(Fault(operation="runners.list", kind=FaultKind.ERROR, status=502, body="<html>"))
    assert (await client.get(f"{REPO}/downloads")).status_code == 200
    assert (await client.get(REPO)).status_code == 502
    assert (await client.get(REPO)).status_code == 200
    assert sim.faults.count("runners.list") == 2
    assert [call.operation for call in sim.calls] == ["downloads", "runners.list", "runners.list"]
    sim.order(Fault(operation="downloads", kind=FaultKind.MALFORMED))
    assert "html" in (await client.get(f"{REPO}/downloads")).text


async def test_an_answer_outside_the_schema_is_a_bug_that_is_seen(sim: GitHubSimulator) -> None:
    """A wrong shape and an undocumented status are noted, and answered 500."""
    route = Route(method="GET", template="/app", operation="app", handler=lambda _: Reply(value={}), caller="any")
    odd = Route(method="GET", template="/app", operation="app", handler=lambda _: Reply(status=299), caller="any")
    for each in (route, odd):
        rest = Rest(sim.world, sim.runs, [each])
        head = {"authorization": "Bearer ghp_owner", "user-agent": "test"}
        exchange = rest.exchange("GET", "/app", "", head, b"", "http://github.test")
        assert rest.respond(exchange, each)[0] == 500
    assert len(sim.violations) == 2


def test_every_route_is_in_the_published_schema() -> None:
    """Templates and methods are GitHub's own."""
    for route in rest_apps.ROUTES + rest_runners.ROUTES + rest_runs.ROUTES:
        assert validation.documented(route.template, route.method)


def test_the_server_answers_on_a_real_port(sim: GitHubSimulator) -> None:
    """Loopback serves the same application."""
    with Loopback(sim.app) as server:
        answer = httpx.get(f"{server.url}{REPO}", headers={"authorization": "Bearer ghp_owner"})
    assert answer.json() == {"total_count": 0, "runners": []}
