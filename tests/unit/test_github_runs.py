"""Workflow runs, read by PyGithub over our own session."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
import respx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.names import Scope
from runner_provisioner.domain.runners import RunStatus
from runner_provisioner.errors import (
    GitHubError,
    InvalidRequest,
    JobStillRunning,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    ServerError,
    Timeout,
)
from runner_provisioner.github.connect import AppCredential, TokenCredential, connect
from runner_provisioner.github.runs import GitHubRuns, Job
from runner_provisioner.logging import Redactor
from runner_provisioner.testing.clock import EPOCH, FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

API = "https://api.github.com"
RUN = f"{API}/repos/octo/app/actions/runs/42"
REPO = Scope.parse("octo/app")


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


@pytest.fixture
def github() -> Iterator[respx.MockRouter]:
    """A GitHub that answers what a test has laid out."""
    with respx.mock(assert_all_called=False, using=None) as router:
        yield router


@pytest.fixture
def plumbing(github: respx.MockRouter, clock: FakeClock) -> Plumbing:
    """Leads to that GitHub."""
    return Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=httpx.MockTransport(github.async_handler),
    )


@pytest.fixture
def runs(plumbing: Plumbing) -> GitHubRuns:
    """Runs seen with a personal token."""
    return connect(REPO, TokenCredential(token="ghp_planted1234"), plumbing=plumbing).runs


def run(attempt: int = 1, status: str = "in_progress") -> httpx.Response:
    """A run as GitHub describes it, cut to what is read."""
    return httpx.Response(200, json={"id": 42, "run_attempt": attempt, "status": status, "conclusion": None})


@pytest.mark.parametrize(
    ("latest", "status", "expected"),
    [
        pytest.param(2, "in_progress", RunStatus.ACTIVE, id="running"),
        pytest.param(2, "queued", RunStatus.ACTIVE, id="queued"),
        pytest.param(2, "completed", RunStatus.COMPLETED, id="completed"),
        pytest.param(3, "queued", RunStatus.COMPLETED, id="an-earlier-attempt"),
        pytest.param(1, "completed", None, id="not-yet-begun"),
    ],
)
async def test_an_attempt_is_judged_by_the_run(
    runs: GitHubRuns, github: respx.MockRouter, latest: int, status: str, expected: RunStatus | None
) -> None:
    """One request: the latest attempt's status, and every earlier attempt is over."""
    route = github.get(RUN).mock(return_value=run(latest, status))

    assert await runs.attempt("octo/app", 42, 2) == expected

    assert route.call_count == 1
    headers = route.calls.last.request.headers
    assert headers["authorization"] == "Bearer ghp_planted1234"
    assert headers["x-github-api-version"] == "2022-11-28"
    assert headers["user-agent"] == "runner-provisioner/test"


async def test_a_run_that_github_does_not_know_is_none(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """404 is no error here: it may be another repository's, or a local start's."""
    github.get(RUN).mock(return_value=httpx.Response(404, json={"message": "Not Found"}))

    assert await runs.attempt("octo/app", 42, 1) is None


async def test_a_run_that_may_not_be_read_is_an_error(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """Unknown is never None, and the message names the permission."""
    github.get(RUN).mock(
        return_value=httpx.Response(
            403,
            json={"message": "Resource not accessible by personal access token"},
            headers={"X-Accepted-GitHub-Permissions": "actions=read"},
        )
    )

    with pytest.raises(PermissionDenied, match="actions: read"):
        await runs.attempt("octo/app", 42, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, text="<html>"), id="html"),
        pytest.param(httpx.Response(200, text="{cut"), id="cut-json"),
        pytest.param(httpx.Response(200, json={"run_attempt": 1}), id="no-status"),
        pytest.param(httpx.Response(200, json={"run_attempt": "x", "status": "queued"}), id="another-type"),
        pytest.param(httpx.Response(200, json={"status": "queued"}), id="no-attempt"),
        pytest.param(httpx.Response(202, json={}), id="still-working"),
    ],
)
async def test_nonsense_is_a_protocol_violation(
    runs: GitHubRuns, github: respx.MockRouter, answer: httpx.Response
) -> None:
    """What PyGithub stumbles over becomes one error of ours, in one line."""
    github.get(RUN).mock(return_value=answer)

    with pytest.raises(ProtocolViolation, match="answer to getRun is not what") as caught:
        await runs.attempt("octo/app", 42, 1)
    assert "\n" not in str(caught.value)


async def test_a_failing_read_is_repeated(runs: GitHubRuns, github: respx.MockRouter, plumbing: Plumbing) -> None:
    """By our session's rules; the count of calls shows each."""
    github.get(RUN).mock(side_effect=[httpx.Response(502), run()])

    assert await runs.attempt("octo/app", 42, 1) is RunStatus.ACTIVE
    assert plumbing.metrics.summary()[0]["calls"] == 2


async def test_a_read_that_keeps_failing_is_an_error(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """Bounded; PyGithub adds no tries of its own."""
    route = github.get(RUN).mock(return_value=httpx.Response(502))

    with pytest.raises(ServerError):
        await runs.attempt("octo/app", 42, 1)
    assert route.call_count == 5


async def test_a_long_rate_limit_is_an_error_at_once(
    runs: GitHubRuns, github: respx.MockRouter, clock: FakeClock
) -> None:
    """PyGithub would sleep until the reset; this does not."""
    github.get(RUN).mock(
        return_value=httpx.Response(
            403,
            json={"message": "API rate limit exceeded for user ID 1."},
            headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(EPOCH.timestamp()) + 900)},
        )
    )

    with pytest.raises(RateLimited) as caught:
        await runs.attempt("octo/app", 42, 1)
    assert caught.value.retry_after == 901.0
    assert clock.monotonic() == 0.0


def job(number: int, **changes: object) -> dict[str, object]:
    """A job as GitHub describes it."""
    return {
        "id": number,
        "name": f"job-{number}",
        "status": "queued",
        "conclusion": None,
        "labels": ["rp-abc"],
        "runner_name": None,
        "started_at": "2026-11-01T12:00:00Z",
        "completed_at": None,
        "url": f"{API}/repos/octo/app/actions/jobs/{number}",
        **changes,
    }


async def test_jobs_of_an_attempt_are_read_over_all_pages(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """The address of the attempt, a hundred a page, following Link."""
    url = f"{RUN}/attempts/2/jobs"
    done = job(2, status="completed", conclusion="success", runner_name="rp-x", completed_at="2026-11-01T12:01:00Z")
    route = github.get(url).mock(
        side_effect=[
            httpx.Response(
                200, json={"total_count": 2, "jobs": [job(1)]}, headers={"link": f'<{url}?page=2>; rel="next"'}
            ),
            httpx.Response(200, json={"total_count": 2, "jobs": [done]}),
        ]
    )

    first, second = await runs.jobs("octo/app", 42, 2)

    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert first == Job(
        id=1,
        name="job-1",
        status="queued",
        conclusion=None,
        labels=("rp-abc",),
        runner_name=None,
        started_at=noon,
        completed_at=None,
    )
    assert (second.conclusion, second.runner_name) == ("success", "rp-x")
    assert second.completed_at == noon + timedelta(minutes=1)
    assert [dict(call.request.url.params) for call in route.calls] == [{"per_page": "100"}, {"page": "2"}]


async def test_jobs_of_the_latest_attempt_are_the_default(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """Without an attempt the run's own list is read."""
    github.get(f"{RUN}/jobs").mock(return_value=httpx.Response(200, json={"total_count": 0, "jobs": []}))

    assert await runs.jobs("octo/app", 42) == []


async def test_a_link_to_another_host_is_refused(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """A token is not sent where an answer points to."""
    github.get(f"{RUN}/jobs").mock(
        return_value=httpx.Response(
            200,
            json={"total_count": 2, "jobs": [job(1)]},
            headers={"link": '<https://evil.example/jobs?page=2>; rel="next"'},
        )
    )

    with pytest.raises(ProtocolViolation, match="listJobs"):
        await runs.jobs("octo/app", 42)


async def test_failed_jobs_are_run_again(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """One order for all of them."""
    route = github.post(f"{RUN}/rerun-failed-jobs").mock(return_value=httpx.Response(201, json={}))

    await runs.rerun_failed_jobs("octo/app", 42)

    assert route.call_count == 1


async def test_a_rerun_waits_for_the_whole_attempt(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """403 while the attempt runs is an error of its own."""
    github.post(f"{RUN}/rerun-failed-jobs").mock(
        return_value=httpx.Response(403, json={"message": "This workflow is already running"})
    )

    with pytest.raises(JobStillRunning):
        await runs.rerun_failed_jobs("octo/app", 42)


async def test_an_order_is_sent_once(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """A rerun whose answer was lost is not repeated blindly."""
    route = github.post(f"{RUN}/rerun-failed-jobs").mock(return_value=httpx.Response(502))

    with pytest.raises(ServerError):
        await runs.rerun_failed_jobs("octo/app", 42)
    assert route.call_count == 1


async def test_a_run_is_cancelled(runs: GitHubRuns, github: respx.MockRouter) -> None:
    """202 is acceptance; 409 is a run that has ended."""
    route = github.post(f"{RUN}/cancel").mock(return_value=httpx.Response(202, json={}))
    await runs.cancel("octo/app", 42)
    route.mock(return_value=httpx.Response(409, json={"message": "Cannot cancel a workflow run that is completed."}))

    with pytest.raises(GitHubError) as caught:
        await runs.cancel("octo/app", 42)
    assert caught.value.code == "CONFLICT"


async def test_a_name_that_is_no_repository_is_refused(runs: GitHubRuns) -> None:
    """Nothing is sent for it."""
    with pytest.raises(InvalidRequest):
        await runs.attempt("octo/../x", 42, 1)


class _Tiny(http.server.BaseHTTPRequestHandler):
    """A real server with one run and one that never answers."""

    protocol_version = "HTTP/1.1"
    release: threading.Event
    seen: threading.Event

    def do_GET(self) -> None:
        """Answer 42; hold 43 until released."""
        self.seen.set()
        if self.path.endswith("/43"):
            self.release.wait(20)
            self.close_connection = True
            return
        body = json.dumps({"run_attempt": 1, "status": "completed"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


@pytest.fixture
def tiny() -> Iterator[tuple[str, type[_Tiny]]]:
    """The server's address under a path, as an Enterprise Server has it."""

    class Handler(_Tiny):
        """This test's own."""

        release = threading.Event()
        seen = threading.Event()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/v3", Handler
    Handler.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def real(api_url: str, request_timeout: float = 30.0) -> GitHubRuns:
    """Runs on a real connection."""
    plumbing = Plumbing(
        clock=SystemClock(),
        redactor=Redactor(),
        tempo=Tempo(attempts=1, request_timeout=request_timeout),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
    )
    return connect(REPO, TokenCredential(token="ghp_planted1234"), plumbing=plumbing, api_url=api_url).runs


async def test_a_real_server_under_a_path_is_read(tiny: tuple[str, type[_Tiny]]) -> None:
    """The path of an Enterprise Server appears once in each address."""
    runs = real(tiny[0])

    assert await runs.attempt("octo/app", 42, 1) is RunStatus.COMPLETED
    await runs._api.aclose()


async def test_a_silent_server_is_given_up(tiny: tuple[str, type[_Tiny]]) -> None:
    """After the tempo's timeout, not PyGithub's."""
    runs = real(tiny[0], request_timeout=0.2)

    with pytest.raises(Timeout):
        await runs.attempt("octo/app", 43, 1)
    await runs._api.aclose()


async def test_a_request_under_way_is_cancelled(tiny: tuple[str, type[_Tiny]]) -> None:
    """Cancelling ends the request itself: the worker thread does not live on until the timeout."""
    runs = real(tiny[0])
    before = anyio.current_time()

    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(runs.attempt, "octo/app", 43, 1)
            await anyio.to_thread.run_sync(tiny[1].seen.wait)
            group.cancel_scope.cancel()

    assert not scope.cancelled_caught
    assert anyio.current_time() - before < 4
    await runs._api.aclose()
    assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


@pytest.fixture(scope="module")
def private_key() -> str:
    """A private key as GitHub hands it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def for_app(github: respx.MockRouter) -> respx.MockRouter:
    """A GitHub where an App is installed on octo/app and may do everything a start needs."""
    expires = (EPOCH + timedelta(hours=1)).isoformat()
    name = "actions-runner-linux-x64-2.340.1.tar.gz"
    offered = {
        "os": "linux",
        "architecture": "x64",
        "filename": name,
        "download_url": name,
        "sha256_checksum": "0" * 64,
    }
    runners = f"{API}/repos/octo/app/actions/runners"
    github.get(f"{API}/repos/octo/app/installation").respond(json={"id": 9, "permissions": {}})
    github.post(f"{API}/app/installations/9/access_tokens").respond(
        201, json={"token": "ghs_x1", "expires_at": expires}
    )
    github.get(f"{runners}/downloads").respond(json=[offered])
    github.get(runners).respond(json={"total_count": 0, "runners": []})
    github.post(f"{runners}/registration-token").respond(201, json={"token": "AABBCC1", "expires_at": expires})
    github.get(RUN).mock(return_value=run())
    return github


async def test_a_start_as_an_app_takes_five_calls(
    for_app: respx.MockRouter, plumbing: Plumbing, private_key: str
) -> None:
    """Installation, token, downloads, runners by name, registration; the check is free."""
    adapter = connect(REPO, AppCredential(app_id="123", private_key=private_key), plumbing=plumbing)

    await adapter.runners.check()
    await adapter.runners.download()
    await adapter.runners.find("rp-x")
    await adapter.runners.register()

    assert for_app.calls.call_count == 5


async def test_the_next_process_need_not_look_for_the_installation(
    for_app: respx.MockRouter, plumbing: Plumbing, private_key: str, tmp_path: Path
) -> None:
    """A stop with the cache of its start takes a token and its looks."""
    app = AppCredential(app_id="123", private_key=private_key)
    await connect(REPO, app, plumbing=plumbing, cache_dir=tmp_path).runners.find("rp-x")
    assert for_app.calls.call_count == 3
    await connect(REPO, app, plumbing=plumbing, cache_dir=tmp_path).runners.find("rp-x")
    assert for_app.calls.call_count == 5


async def test_a_stop_and_a_cleanup_as_an_app_take_three_calls(
    for_app: respx.MockRouter, plumbing: Plumbing, private_key: str
) -> None:
    """Installation, token, list; reading a run of the same repository costs that one call more."""
    adapter = connect(REPO, AppCredential(app_id="123", private_key=private_key), plumbing=plumbing)

    await adapter.runners.list("rp-")
    assert for_app.calls.call_count == 3
    await adapter.runs.attempt("octo/app", 42, 1)
    assert for_app.calls.call_count == 4


async def test_no_credential_is_shown_by_its_description(private_key: str) -> None:
    """What a traceback or a log prints of the settings holds no secret."""
    shown = repr([TokenCredential(token="ghp_planted1234"), AppCredential(app_id="1", private_key=private_key)])

    assert "planted" not in shown
    assert "PRIVATE" not in shown
