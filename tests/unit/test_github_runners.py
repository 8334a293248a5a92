"""Runners of a repository or an organisation, on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest
import respx

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.domain.names import Scope
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState
from runner_provisioner.errors import (
    AuthenticationFailed,
    InvalidRequest,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RunnerBusy,
    RunnerGroupInvisible,
    RunnerNameTaken,
    ServerError,
)
from runner_provisioner.github.addresses import api_url_of, repository_path, scope_path
from runner_provisioner.github.connect import GitHub, TokenCredential, connect
from runner_provisioner.logging import Redactor
from runner_provisioner.testing.clock import EPOCH, FakeClock

API = "https://api.github.com"
REPO = Scope.parse("octo/app")
ORG = Scope.parse("octo")
REGISTRATION = {"token": "LLBF3JGZDX3P5PMEXLND6TS6FCWO6", "expires_at": "2026-11-01T13:00:00.000Z"}
SHA = "A" * 64
Connect = Callable[..., GitHub]


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


@pytest.fixture
def redactor() -> Redactor:
    """Knows no secret yet."""
    return Redactor()


@pytest.fixture
def github() -> Iterator[respx.MockRouter]:
    """A GitHub that answers what a test has laid out."""
    with respx.mock(assert_all_called=False, using=None) as router:
        yield router


@pytest.fixture
def connected(github: respx.MockRouter, clock: FakeClock, redactor: Redactor) -> Connect:
    """Builds the adapter on that GitHub."""
    plumbing = Plumbing(
        clock=clock,
        redactor=redactor,
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=httpx.MockTransport(github.async_handler),
    )

    def build(scope: Scope = REPO, **options: str) -> GitHub:
        return connect(scope, TokenCredential(token="ghp_planted1234"), plumbing=plumbing, **options)  # type: ignore[arg-type]

    return build


def described(number: int, name: str, *, status: str = "online", busy: bool = False) -> dict[str, object]:
    """A runner as GitHub describes it."""
    labels = [{"id": 1, "name": "gpu", "type": "custom"}, {"name": "linux", "type": "read-only"}]
    return {"id": number, "name": name, "os": "linux", "status": status, "busy": busy, "labels": labels}


def page(*runners: dict[str, object], total: int | None = None, link: str | None = None) -> httpx.Response:
    """One page of runners."""
    headers = {} if link is None else {"link": link}
    body = {"total_count": len(runners) if total is None else total, "runners": list(runners)}
    return httpx.Response(200, json=body, headers=headers)


async def test_a_registration_token_is_made_for_the_scope(
    connected: Connect, github: respx.MockRouter, redactor: Redactor
) -> None:
    """The address is the scope's, the token is a secret before anybody has it."""
    route = github.post(f"{API}/repos/octo/app/actions/runners/registration-token").mock(
        return_value=httpx.Response(201, json=REGISTRATION)
    )

    registration = await connected().runners.register()

    assert registration.url == "https://github.com/octo/app"
    assert registration.token == REGISTRATION["token"]
    assert registration.expires_at == EPOCH.replace(hour=13)
    request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer ghp_planted1234"
    assert request.content == b""
    assert REGISTRATION["token"] not in redactor.redact(f"token {REGISTRATION['token']}")
    assert REGISTRATION["token"] not in repr(registration)


async def test_a_registration_token_is_reused_for_ten_minutes(
    connected: Connect, github: respx.MockRouter, clock: FakeClock
) -> None:
    """Also by callers at once; after ten minutes there is a new one."""
    route = github.post(f"{API}/orgs/octo/actions/runners/registration-token").mock(
        return_value=httpx.Response(201, json=REGISTRATION)
    )
    runners = connected(ORG).runners
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(runners.register)
    clock.advance(599)
    await runners.register()
    assert route.call_count == 1
    clock.advance(1)

    await runners.register()

    assert route.call_count == 2


async def test_a_remove_token_is_made_anew_each_time(connected: Connect, github: respx.MockRouter) -> None:
    """It serves one removal by the runner itself."""
    github.post(f"{API}/repos/octo/app/actions/runners/remove-token").mock(
        return_value=httpx.Response(201, json=REGISTRATION)
    )

    assert (await connected().runners.remove_token()).token == REGISTRATION["token"]


async def test_registering_without_permission_names_it(connected: Connect, github: respx.MockRouter) -> None:
    """A 404 at the registration speaks of the name and of the permission."""
    github.post(f"{API}/repos/octo/app/actions/runners/registration-token").mock(
        return_value=httpx.Response(
            404, json={"message": "Not Found"}, headers={"X-Accepted-GitHub-Permissions": "administration=write"}
        )
    )

    with pytest.raises(PermissionDenied, match=r"no such repository .*permission administration: write"):
        await connected().runners.register()


async def test_a_renamed_repository_cannot_be_registered_with(connected: Connect, github: respx.MockRouter) -> None:
    """A POST is never sent on: 307 is an error that says so."""
    github.post(f"{API}/repos/octo/app/actions/runners/registration-token").mock(
        return_value=httpx.Response(307, headers={"location": f"{API}/repositories/5/actions"}, json={})
    )

    with pytest.raises(ProtocolViolation, match="check the address and the name"):
        await connected().runners.register()


async def test_a_rate_limit_is_waited_for_as_told(
    connected: Connect, github: respx.MockRouter, clock: FakeClock
) -> None:
    """The reset of an empty budget within the minute is slept through, then the call succeeds."""
    limited = httpx.Response(
        403,
        json={"message": "API rate limit exceeded"},
        headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(EPOCH.timestamp()) + 40)},
    )
    github.post(f"{API}/repos/octo/app/actions/runners/registration-token").mock(
        side_effect=[limited, httpx.Response(201, json=REGISTRATION)]
    )

    await connected().runners.register()

    assert clock.monotonic() == 41.0


async def test_a_long_rate_limit_is_an_error_at_once(
    connected: Connect, github: respx.MockRouter, clock: FakeClock
) -> None:
    """Nobody sleeps for half an hour; the error says how long it is."""
    limited = httpx.Response(429, json={"message": "slow down"}, headers={"retry-after": "1800"})
    github.get(f"{API}/repos/octo/app/actions/runners").mock(return_value=limited)

    with pytest.raises(RateLimited, match="wait 1800 s") as caught:
        await connected().runners.list()
    assert caught.value.retry_after == 1800.0
    assert clock.monotonic() == 0.0


async def test_runners_are_listed_over_all_pages_by_link(connected: Connect, github: respx.MockRouter) -> None:
    """Only the page's number is taken from Link, whatever host it names."""
    link = '<http://proxy.local/repos/octo/app/actions/runners?per_page=100&page=2>; rel="next", <x?page=2>; rel="last"'
    route = github.get(f"{API}/repos/octo/app/actions/runners").mock(
        side_effect=[
            page(described(1, "rp-a"), described(2, "other"), total=3, link=link),
            page(described(3, "rp-b", status="offline"), total=3, link='<x?page=1>; rel="first"'),
        ]
    )

    found = await connected().runners.list("rp-")

    assert [runner.name for runner in found] == ["rp-a", "rp-b"]
    assert [dict(call.request.url.params) for call in route.calls] == [
        {"per_page": "100", "page": "1"},
        {"per_page": "100", "page": "2"},
    ]


async def test_runners_are_listed_by_count_where_there_is_no_link(connected: Connect, github: respx.MockRouter) -> None:
    """A server or proxy without Link: pages are asked for until the count is reached or one is empty."""
    route = github.get(f"{API}/orgs/octo/actions/runners").mock(
        side_effect=[page(described(1, "a"), total=3), page(described(2, "b"), total=3), page(total=3)]
    )

    assert [runner.name for runner in await connected(ORG).runners.list()] == ["a", "b"]
    assert route.call_count == 3


async def test_a_list_that_shifts_while_it_is_read_is_read_again(connected: Connect, github: respx.MockRouter) -> None:
    """One that goes between two pages makes the next skip one that is there, even when no page is left for it."""
    first = page(described(1, "a"), described(2, "b"), total=3)
    github.get(f"{API}/orgs/octo/actions/runners").mock(
        side_effect=[first, page(total=2), page(described(2, "b"), described(3, "c"))]
    )

    assert [runner.name for runner in await connected(ORG).runners.list()] == ["b", "c"]


async def test_a_list_that_never_holds_gives_all_that_was_shown(connected: Connect, github: respx.MockRouter) -> None:
    """Who was there all along was on one of the readings; each is named once."""
    readings = [
        *[page(described(1, "a"), total=3), page(described(3, "c"), total=2), page(total=2)],
        *[page(described(2, "b"), total=2), page(described(3, "c"), total=1)],
        *[page(described(3, "c"), total=2), page(total=1)],
    ]
    route = github.get(f"{API}/orgs/octo/actions/runners").mock(side_effect=readings)

    assert sorted(runner.name for runner in await connected(ORG).runners.list()) == ["a", "b", "c"]
    assert route.call_count == len(readings)


async def test_a_list_without_end_is_a_protocol_violation(connected: Connect, github: respx.MockRouter) -> None:
    """A Link that always leads on does not hold the program for ever."""
    github.get(f"{API}/orgs/octo/actions/runners").mock(return_value=page(link='<x?page=1>; rel="next"'))

    with pytest.raises(ProtocolViolation, match="did not end"):
        await connected(ORG).runners.list()


@pytest.mark.parametrize(
    ("status", "busy", "state", "online"),
    [
        pytest.param("online", False, RunnerState.IDLE, True, id="idle"),
        pytest.param("online", True, RunnerState.BUSY, True, id="busy"),
        pytest.param("offline", False, RunnerState.OFFLINE, False, id="offline"),
        pytest.param("offline", True, RunnerState.BUSY, False, id="lost-with-its-job"),
    ],
)
async def test_a_runner_is_read_by_id(
    connected: Connect, github: respx.MockRouter, *, status: str, busy: bool, state: RunnerState, online: bool
) -> None:
    """Busy counts before offline: GitHub says busy until the job's lock has run out."""
    github.get(f"{API}/repos/octo/app/actions/runners/7").mock(
        return_value=httpx.Response(200, json=described(7, "rp-x", status=status, busy=busy))
    )

    found = await connected().runners.get(RunnerId(7))

    assert found == Runner(id=RunnerId(7), name="rp-x", state=state, labels=("gpu", "linux"), online=online)


async def test_a_runner_that_does_not_exist_is_none(connected: Connect, github: respx.MockRouter) -> None:
    """404 is GitHub's word for it."""
    github.get(f"{API}/repos/octo/app/actions/runners/7").mock(return_value=httpx.Response(404))

    assert await connected().runners.get(RunnerId(7)) is None


async def test_a_runner_is_found_by_its_exact_name(connected: Connect, github: respx.MockRouter) -> None:
    """GitHub is asked by name, and a server that ignores the filter or matches loosely misleads nobody."""
    route = github.get(f"{API}/repos/octo/app/actions/runners").mock(
        return_value=page(described(1, "rp-a-2"), described(2, "rp-a"))
    )
    runners = connected().runners

    found = await runners.find("rp-a")

    assert found is not None
    assert found.id == 2
    assert route.calls.last.request.url.params["name"] == "rp-a"
    assert await runners.find("rp") is None


@pytest.mark.parametrize("status", [204, 404], ids=["removed", "gone-already"])
async def test_removing_a_runner_succeeds_when_it_is_gone(
    connected: Connect, github: respx.MockRouter, status: int
) -> None:
    """Gone already is success."""
    route = github.delete(f"{API}/repos/octo/app/actions/runners/7").mock(return_value=httpx.Response(status))

    await connected().runners.remove(RunnerId(7))

    assert route.call_count == 1


async def test_removing_a_busy_runner_is_refused(connected: Connect, github: respx.MockRouter) -> None:
    """422 is a runner that still has a job; the next pass tries again."""
    github.delete(f"{API}/repos/octo/app/actions/runners/7").mock(
        return_value=httpx.Response(422, json={"message": "Runner is currently running a job"})
    )

    with pytest.raises(RunnerBusy):
        await connected().runners.remove(RunnerId(7))


def downloads(**changes: object) -> list[dict[str, object]]:
    """What GitHub offers, the one for linux-x64 changed."""

    def one(system: str, architecture: str, **more: object) -> dict[str, object]:
        name = f"actions-runner-{system}-{architecture}-2.340.1.tar.gz"
        return {
            "os": system,
            "architecture": architecture,
            "filename": name,
            "download_url": f"https://x/{name}",
            "sha256_checksum": SHA,
            **more,
        }

    return [one("osx", "x64"), one("linux", "arm64"), one("linux", "x64", **changes)]


@pytest.mark.parametrize("architecture", ["x64", "arm64"])
async def test_the_runner_comes_from_githubs_own_list(
    connected: Connect, github: respx.MockRouter, architecture: str
) -> None:
    """Version, address and checksum are those for Linux on that architecture."""
    github.get(f"{API}/repos/octo/app/actions/runners/downloads").mock(
        return_value=httpx.Response(200, json=downloads())
    )

    found = await connected().runners.download(architecture)

    assert (found.version, found.sha256, found.architecture) == ("2.340.1", "a" * 64, architecture)
    assert found.url == f"https://x/actions-runner-linux-{architecture}-2.340.1.tar.gz"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, json=downloads(sha256_checksum=None)), id="no-checksum"),
        pytest.param(httpx.Response(200, json=downloads(sha256_checksum="abc")), id="no-sha256"),
        pytest.param(httpx.Response(200, json=downloads(filename="runner.tar.gz")), id="no-version"),
        pytest.param(httpx.Response(200, json=[]), id="none-offered"),
        pytest.param(httpx.Response(200, json={"x": 1}), id="no-list"),
        pytest.param(httpx.Response(200, text="<html>"), id="no-json"),
        pytest.param(httpx.Response(404, json={"message": "Not Found"}), id="no-such-endpoint"),
        pytest.param(httpx.Response(422, json={"message": "no"}), id="refused"),
    ],
)
async def test_a_runner_that_cannot_be_verified_is_replaced_by_the_pinned_one(
    connected: Connect, github: respx.MockRouter, answer: httpx.Response
) -> None:
    """Without a version and a checksum from GitHub, the release this program was made with is used."""
    github.get(f"{API}/repos/octo/app/actions/runners/downloads").mock(return_value=answer)

    found = await connected().runners.download()

    assert (found.version, found.sha256[:8]) == ("2.338.0", "af4b794c")
    assert found.url.endswith("/v2.338.0/actions-runner-linux-x64-2.338.0.tar.gz")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(401, AuthenticationFailed, id="refused-credential"),
        pytest.param(403, PermissionDenied, id="no-permission"),
        pytest.param(500, ServerError, id="failing"),
    ],
)
async def test_a_look_for_downloads_that_says_something_of_the_rest_is_an_error(
    connected: Connect, github: respx.MockRouter, status: int, kind: type[Exception]
) -> None:
    """What would fail the registration too, or may pass, is not covered up by the pinned release."""
    github.get(f"{API}/repos/octo/app/actions/runners/downloads").mock(return_value=httpx.Response(status, json={}))

    with pytest.raises(kind):
        await connected().runners.download()


async def test_an_architecture_without_a_runner_is_refused(connected: Connect) -> None:
    """Nothing is sent for it."""
    with pytest.raises(InvalidRequest, match="x64 or arm64"):
        await connected().runners.download("riscv64")


def groups(*names: str) -> httpx.Response:
    """The groups that a repository may use."""
    return httpx.Response(200, json={"total_count": len(names), "runner_groups": [{"name": name} for name in names]})


def groups_with(*, default: bool) -> httpx.Response:
    """One group, which is the default one or not."""
    group = {"id": 1, "name": "Default" if default else "GPU", "default": default}
    return httpx.Response(200, json={"total_count": 1, "runner_groups": [group]})


def registrable(github: respx.MockRouter, path: str) -> respx.Route:
    """Lets the scope register."""
    return github.post(f"{API}/{path}/actions/runners/registration-token").mock(
        return_value=httpx.Response(201, json=REGISTRATION)
    )


async def test_checking_with_a_personal_token_makes_the_registration_token(
    connected: Connect, github: respx.MockRouter
) -> None:
    """It proves the permission, and the one made is the one used: no call is spent on the check."""
    route = registrable(github, "repos/octo/app")
    runners = connected().runners

    await runners.check()
    await runners.register()

    assert route.call_count == 1


async def test_a_visible_runner_group_passes(connected: Connect, github: respx.MockRouter) -> None:
    """The question names the repository without its owner; case does not count."""
    registrable(github, "orgs/octo")
    route = github.get(f"{API}/orgs/octo/actions/runner-groups").mock(return_value=groups("Default", "GPU"))

    await connected(ORG, runner_group="gpu", repository="octo/app").runners.check()

    assert route.calls.last.request.url.params["visible_to_repository"] == "app"


@pytest.mark.parametrize(
    ("repository", "visible", "says"),
    [
        pytest.param(
            "octo/app", ["Default", "cpu"], r"octo/app may .*'gpu' \(it may use: 'Default', 'cpu'\)", id="other"
        ),
        pytest.param("octo/app", [], r"octo/app .*it may use: none", id="none"),
        pytest.param(None, ["Default"], r"octo may not use", id="repository-unknown"),
    ],
)
async def test_an_invisible_runner_group_is_refused_before_renting(
    connected: Connect, github: respx.MockRouter, repository: str | None, visible: list[str], says: str
) -> None:
    """The error names the groups there are."""
    registrable(github, "orgs/octo")
    route = github.get(f"{API}/orgs/octo/actions/runner-groups").mock(return_value=groups(*visible))
    options = {"runner_group": "gpu"} | ({"repository": repository} if repository else {})

    with pytest.raises(RunnerGroupInvisible, match=says):
        await connected(ORG, **options).runners.check()
    assert ("visible_to_repository" in route.calls.last.request.url.params) == (repository is not None)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(groups_with(default=True), None, id="open"),
        pytest.param(groups_with(default=False), r"default runner group \(it may use: 'GPU'\)", id="closed"),
        pytest.param(httpx.Response(404, json={"message": "Not Found"}), None, id="a-server-without-groups"),
    ],
)
async def test_a_closed_default_group_is_refused_before_renting(
    connected: Connect, github: respx.MockRouter, answer: httpx.Response, says: str | None
) -> None:
    """Its jobs would never reach the repository's runners."""
    registrable(github, "orgs/octo")
    github.get(f"{API}/orgs/octo/actions/runner-groups").mock(return_value=answer)
    check = connected(ORG, repository="octo/app").runners.check
    if says is None:
        await check()
        return
    with pytest.raises(RunnerGroupInvisible, match=says):
        await check()


async def test_a_refused_look_at_the_groups_is_an_error(connected: Connect, github: respx.MockRouter) -> None:
    """Who may register may see them: without that nothing will work."""
    registrable(github, "orgs/octo")
    refusal = httpx.Response(403, json={"message": "Resource not accessible by integration"})
    github.get(f"{API}/orgs/octo/actions/runner-groups").mock(return_value=refusal)
    with pytest.raises(PermissionDenied):
        await connected(ORG, repository="octo/app").runners.check()


async def test_a_runner_group_of_a_repository_is_refused(connected: Connect) -> None:
    """Only organisations have groups; nothing is sent."""
    with pytest.raises(InvalidRequest, match="only an organisation has groups"):
        await connected(REPO, runner_group="gpu").runners.check()


async def test_an_enterprise_server_is_reached_under_its_path(connected: Connect, github: respx.MockRouter) -> None:
    """The API lies at /api/v3 of the server, and runners register with the server."""
    github.post("https://ghes.example/api/v3/orgs/octo/actions/runners/registration-token").mock(
        return_value=httpx.Response(201, json=REGISTRATION)
    )
    adapter = connected(Scope.parse("octo", server_url="https://ghes.example"))

    assert (await adapter.runners.register()).url == "https://ghes.example/octo"
    await adapter.aclose()


@pytest.mark.parametrize(
    ("server", "api"),
    [
        pytest.param("https://github.com", "https://api.github.com", id="public"),
        pytest.param("https://www.github.com/", "https://api.github.com", id="www"),
        pytest.param("https://sub.ghe.com", "https://api.sub.ghe.com", id="data-residency"),
        pytest.param("http://github.localhost:8080", "http://api.github.localhost:8080", id="with-port"),
        pytest.param("https://ghes.example/", "https://ghes.example/api/v3", id="enterprise-server"),
    ],
)
def test_the_api_lies_where_the_server_has_it(server: str, api: str) -> None:
    """`api.` in front for GitHub's own hosts, `/api/v3` behind for all others."""
    assert api_url_of(server) == api


@pytest.mark.parametrize("name", ["octo", "octo/..", "../app", "octo/app/x", "octo/a b", "/", ""], ids=repr)
def test_a_name_that_is_no_repository_makes_no_path(name: str) -> None:
    """Nothing that could leave its place in an address is put into one."""
    with pytest.raises(InvalidRequest, match="write owner/name"):
        repository_path(name)


def test_a_scope_whose_owner_is_no_name_makes_no_path() -> None:
    """Likewise for an organisation."""
    with pytest.raises(InvalidRequest, match="not the name of an organisation"):
        scope_path(Scope(server_url="https://github.com", owner=".."))


@pytest.mark.parametrize("repository", ["other/app", "app"], ids=["of-another-owner", "without-owner"])
def test_a_repository_that_the_organisation_does_not_have_is_refused(connected: Connect, repository: str) -> None:
    """Its jobs could never reach the runners; the message names what was given."""
    with pytest.raises(InvalidRequest, match=r"write owner/name|give another --organization"):
        connected(ORG, repository=repository)


def test_heavy_libraries_are_loaded_by_those_who_need_them() -> None:
    """Putting the adapter together loads neither PyGithub nor what signs for an App."""
    heavy = {"github", "requests", "jwt", "cryptography"}
    code = f"import sys, runner_provisioner.github.connect; print(*({heavy!r} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


JIT = {"runner": {"id": 7}, "encoded_jit_config": "cGxhbnRlZC1jb25maWd1cmF0aW9u"}


async def test_a_configuration_is_made_for_one_runner(
    connected: Connect, github: respx.MockRouter, redactor: Redactor
) -> None:
    """In a repository's only group; it is a secret before anybody has it."""
    route = github.post(f"{API}/repos/octo/app/actions/runners/generate-jitconfig").mock(
        return_value=httpx.Response(201, json=JIT)
    )
    config = await connected().runners.jit_config("rp-one", ("rp-label", "more"))
    assert config == JIT["encoded_jit_config"]
    assert json.loads(route.calls.last.request.content) == {
        "name": "rp-one",
        "runner_group_id": 1,
        "labels": ["rp-label", "more"],
    }
    assert config not in redactor.redact(f"config {config}")


@pytest.mark.parametrize(
    ("status", "error"),
    [pytest.param(409, RunnerNameTaken, id="taken"), pytest.param(502, ServerError, id="lost-answer")],
)
async def test_a_configuration_is_never_asked_for_twice(
    connected: Connect, github: respx.MockRouter, status: int, error: type[Exception]
) -> None:
    """GitHub may have made the runner although it did not say so."""
    route = github.post(f"{API}/repos/octo/app/actions/runners/generate-jitconfig").mock(
        return_value=httpx.Response(status, json={"message": "Already exists - A runner of the name already exists."})
    )
    with pytest.raises(error):
        await connected().runners.jit_config("rp-one", ("rp-label",))
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("wanted", "groups", "number"),
    [
        pytest.param(None, [(3, "Default", True), (4, "GPU", False)], 3, id="the-default"),
        pytest.param(None, [(4, "GPU", False)], 1, id="a-default-that-is-not-shown"),
        pytest.param("gpu", [(3, "Default", True), (4, "GPU", False)], 4, id="by-name"),
    ],
)
async def test_an_organisations_runner_joins_its_group(
    connected: Connect,
    github: respx.MockRouter,
    wanted: str | None,
    groups: list[tuple[int, str, bool]],
    number: int,
) -> None:
    """The one that was named, else the organisation's default."""
    listed = [{"id": group, "name": name, "default": default} for group, name, default in groups]
    github.get(url__startswith=f"{API}/orgs/octo/actions/runner-groups").mock(
        return_value=httpx.Response(200, json={"total_count": len(listed), "runner_groups": listed})
    )
    route = github.post(f"{API}/orgs/octo/actions/runners/generate-jitconfig").mock(
        return_value=httpx.Response(201, json=JIT)
    )
    options = {"runner_group": wanted} if wanted else {}
    await connected(ORG, **options).runners.jit_config("rp-one", ("rp-label",))
    assert json.loads(route.calls.last.request.content)["runner_group_id"] == number


async def test_a_configuration_for_a_group_that_is_not_there_is_refused(
    connected: Connect, github: respx.MockRouter
) -> None:
    """Nothing is registered elsewhere instead."""
    github.get(url__startswith=f"{API}/orgs/octo/actions/runner-groups").mock(
        return_value=httpx.Response(200, json={"total_count": 0, "runner_groups": []})
    )
    with pytest.raises(RunnerGroupInvisible):
        await connected(ORG, runner_group="gpu").runners.jit_config("rp-one", ("rp-label",))
