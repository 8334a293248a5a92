"""The simulated GitHub as seen by PyGithub and by other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import github
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.serving import Loopback
from runner_provisioner.testing.clock import FakeClock


@pytest.fixture
def sim() -> GitHubSimulator:
    """A repository of a user and one of an organisation, on real time."""
    sim = GitHubSimulator(SystemClock())
    sim.add_organisation("acme")
    sim.add_repository("octo/hello")
    sim.add_repository("acme/tool")
    sim.add_token("ghp_owner")
    return sim


@pytest.fixture
def server(sim: GitHubSimulator) -> Iterator[Loopback]:
    """The simulator on a real port."""
    with Loopback(sim.app) as server:
        yield server


def test_pygithub_reads_runs_and_runners(sim: GitHubSimulator, server: Loopback) -> None:
    """Repository, runners over several pages, runs, jobs, reruns and an organisation's jitconfig."""
    for number in range(35):
        sim.play_runner("octo/hello", f"r{number}", ["x"])
    run_id = sim.queue_job("octo/hello", ["x"])
    client = github.Github(
        auth=github.Auth.Token("ghp_owner"),
        base_url=server.url,
        retry=None,
        seconds_between_requests=None,
        seconds_between_writes=None,
    )
    repository = client.get_repo("octo/hello")
    assert len(list(repository.get_self_hosted_runners())) == 35
    run = repository.get_workflow_run(run_id)
    assert (run.status, [job.labels for job in run.jobs()]) == ("queued", [["x"]])
    assert not run.rerun_failed_jobs()
    assert run.cancel()
    assert run.rerun()
    assert repository.get_workflow_run(run_id).run_attempt == 2
    organisation = client.requester.requestJsonAndCheck("POST", "/orgs/acme/actions/runners/registration-token")
    assert organisation[1]["token"]
    client.close()
    assert sim.violations == []


def test_pygithub_authenticates_as_an_app(sim: GitHubSimulator, server: Loopback) -> None:
    """Look-up, narrowed token and use."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    sim.add_app(5, "Iv5", pem)
    sim.install_app(5, "octo")
    integration = github.GithubIntegration(
        auth=github.Auth.AppAuth("Iv5", pem),
        base_url=server.url,
        seconds_between_requests=None,
        seconds_between_writes=None,
    )
    installation = integration.get_repo_installation("octo", "hello")
    token = integration.get_access_token(installation.id, permissions={"actions": "read"})
    assert token.token.startswith("ghs_5_")
    integration.close()
    assert sim.violations == []


def test_other_processes_control_it_over_http(sim: GitHubSimulator, server: Loopback, tmp_path: Path) -> None:
    """Everything a rehearsal needs is under `/_sim/`."""
    with httpx.Client(base_url=f"{server.url}/_sim") as client:
        assert client.get("/health").json()["ok"]
        body = {"repository": "octo/new", "workspace": str(tmp_path)}
        assert client.post("/repositories", json=body).json()["id"]
        job = {"repository": "octo/new", "labels": ["x"], "steps": ["echo hi"]}
        run_id = client.post("/jobs", json=job).json()["run_id"]
        runner = sim.play_runner("octo/new", "r", ["x"])
        taken = sim.play_take(runner)
        assert taken is not None
        sim.runs.write(taken, "a line")
        assert client.get(f"/runs/{run_id}").json()["jobs"][0]["runner"] == "r"
        assert client.get(f"/runs/{run_id}/log").json() == {"log": "a line\n"}
        assert client.get("/runners", params={"scope": "octo/new"}).json()["runners"][0]["busy"]
        client.post(f"/runs/{run_id}/complete", json={"conclusion": "failure"})
        assert client.get(f"/runs/{run_id}").json()["conclusion"] == "failure"
        text = "{on: push, jobs: {a: {runs-on: x, steps: [{run: 'true'}]}}}"
        other = client.post("/runs", json={"repository": "octo/new", "workflow": text}).json()["run_id"]
        client.post(f"/runs/{other}/cancel")
        assert sim.run(other).latest.conclusion == "cancelled"
        assert client.get("/violations").json() == {"violations": []}


def test_faults_and_time_are_ordered_over_http(sim: GitHubSimulator, server: Loopback) -> None:
    """A fault is set and cleared; real time cannot be moved."""
    head = {"authorization": "Bearer ghp_owner"}
    with httpx.Client(base_url=server.url, headers=head) as client:
        client.post("/_sim/faults", json={"operation": "repo", "kind": "error", "status": 503, "times": None})
        assert client.get("/repos/octo/hello").status_code == 503
        client.delete("/_sim/faults")
        assert client.get("/repos/octo/hello").status_code == 200
        assert [call["operation"] for call in client.get("/_sim/calls").json()["calls"]] == ["repo", "repo"]
        assert client.post("/_sim/clock", json={"seconds": 5}).status_code == 409
        sim.clock = FakeClock()
        before = sim.now
        client.post("/_sim/clock", json={"seconds": 5})
        assert (sim.now - before).total_seconds() == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("GET", "runs/1", None, 404),
        ("POST", "runs", b"{", 400),
        ("POST", "runs", b"{}", 400),
        ("POST", "faults", b'{"operation": "x", "kind": "strange"}', 400),
    ],
    ids=["unknown", "no-run", "no-json", "missing", "no-such-kind"],
)
def test_bad_orders_are_refused(server: Loopback, method: str, path: str, body: bytes | None, status: int) -> None:
    """With a sentence, never a traceback."""
    answer = httpx.request(method, f"{server.url}/_sim/{path}", content=body)
    assert answer.status_code == status
    assert answer.json()["message"]
