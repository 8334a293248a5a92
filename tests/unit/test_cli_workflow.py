"""What the command line does for a workflow alone: pages, costs, and a look whether somebody cleans up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import httpx
import pytest
import respx

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.cli import summary
from runner_provisioner.cli.schedule import WARNING, warn_unless_cleaned
from runner_provisioner.cli.session import Session
from runner_provisioner.cli.spending import Jobs as RunJobs
from runner_provisioner.cli.spending import Moment, Rate, spent
from runner_provisioner.domain.interruptions import Interruption
from runner_provisioner.domain.leases import Observation
from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.pods import Pod, PodId, PodState
from runner_provisioner.errors import PermissionDenied, RemoteError
from runner_provisioner.github.connect import TokenCredential, connect
from runner_provisioner.github.runs import CLEANING_STEP, GitHubRuns
from runner_provisioner.logging import Redactor
from runner_provisioner.services.ending import Ended
from runner_provisioner.settings import Settings
from runner_provisioner.testing.clock import EPOCH, FakeClock
from runner_provisioner.wiring import Place, Program

KEY = RunKey(owner8="0" * 8, run="zz", attempt=1, key="default")
PLACE = Place(scope=Scope.parse("octo/app"), owner8="0" * 8, repository="octo/app")
RUNS = "https://api.github.com/repos/octo/app/actions/runs"
AT = "2026-11-21T08:00:0{}+00:00"


def session_in(folder: Path, **environ: str) -> Session:
    """A command of a workflow whose page is `folder`/page."""
    given = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "page"), **environ}
    return Session(settings=Settings.read(given, home=folder, cwd=folder), as_json=False)


# -- pages


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(
            "no offer: 1 x A4000 (0.2 USD/h), try again", "no offer: 1 x A4000 (0.2 USD/h), try again", id="plain"
        ),
        pytest.param("a|b\nc", "`a|b c`", id="lines"),
        pytest.param("<img src=x>&amp;", "`<img src=x>&amp;`", id="html"),
        pytest.param("*a* _b_ [d](e) ~f~ \\", "`*a* _b_ [d](e) ~f~ \\`", id="markup"),
        pytest.param("a `b` ``c``", "``` a `b` ``c`` ```", id="code"),
        pytest.param("`x", "`` `x ``", id="a fence that opens"),
        pytest.param("see https://evil.example/x", "`see https://evil.example/x`", id="address"),
        pytest.param("HTTP://EVIL.example", "`HTTP://EVIL.example`", id="address in capitals"),
        pytest.param("www.evil.example", "`www.evil.example`", id="address without a scheme"),
        pytest.param("mail a@evil.example", "`mail a@evil.example`", id="mail"),
        pytest.param("hello @octocat", "`hello @octocat`", id="mention"),
        pytest.param("@acme/team", "`@acme/team`", id="mention of a team"),
        pytest.param("fixes #1", "`fixes #1`", id="reference"),
        pytest.param("fixes GH-1", "`fixes GH-1`", id="reference by word"),
        pytest.param("acme/site#1", "`acme/site#1`", id="reference elsewhere"),
        pytest.param("by 0123abcd", "`by 0123abcd`", id="commit"),
        pytest.param("so :tada: it", "`so :tada: it`", id="emoji"),
        pytest.param("A\u202e4000\u202c", "`A\ufffd4000\ufffd`", id="bidi override"),
        pytest.param("\u2066A\u2069\u200f", "`\ufffdA\ufffd\ufffd`", id="bidi isolate"),
        pytest.param("ht\u200btps://a\ufeff\u2060", "`ht\ufffdtps://a\ufffd\ufffd`", id="zero width"),
        pytest.param("a\u3164\U000e0041", "`a\ufffd\ufffd`", id="invisible letter and tag"),
        pytest.param("a\x1b[31mred\x00", "`a\ufffd[31mred\ufffd`", id="terminal controls"),
        pytest.param("a ##[stop-commands]x", "`a ## [stop-commands]x`", id="command of the runner"),
        pytest.param("", "", id="nothing"),
        pytest.param("x" * 500, "x" * 399 + "…", id="long"),
        pytest.param("rpa_" + "A1" * 20, None, id="secret"),
    ],
)
def test_a_cell_is_shown_as_it_is(text: str, shown: str | None) -> None:
    """Whatever a service said: no markup of its own, one line, not too long, nothing secret."""
    found = summary.escape(text)
    assert found == shown if shown is not None else "A1A1" not in found


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        pytest.param("a|b", r"`a\|b`", id="pipe"),
        pytest.param("a\\|b", r"`a\ \|b`", id="pipe after a backslash"),
        pytest.param("a\\\\||b", r"`a\\ \|\|b`", id="pipes after two"),
    ],
)
def test_a_cell_stays_one_cell(text: str, cell: str) -> None:
    """In code spans too GitHub splits a row at its pipes, and only an escaped one is none."""
    assert summary.table(("n",), [(text,)]).splitlines()[-1] == f"| {cell} |"


def test_the_offers_and_what_came_of_them() -> None:
    """Refused by the survey, refused when tried, unanswered, taken, given back."""
    timeline: list[dict[str, Any]] = [
        {"event": "offer_refused", "offer": "A", "error": "too dear", "at": AT.format(0)},
        {"event": "offer_tried", "offer": "B", "at": AT.format(1)},
        {"event": "offer_refused", "offer": "B", "error": "gone", "at": AT.format(2)},
        {"event": "offer_tried", "offer": "C", "at": AT.format(3)},
        {"event": "create_unanswered", "offer": "C", "error": "timeout", "at": AT.format(4)},
        {"event": "offer_tried", "offer": "D", "at": AT.format(5)},
        {"event": "pod_rented", "pod": "p1", "price": "0.2", "at": AT.format(6)},
        {"event": "lease_ready", "at": AT.format(8)},
        {"event": "lease_busy", "at": AT.format(9)},
        {"event": "offer_tried", "offer": "E", "at": AT.format(9)},
    ]
    assert summary.offers(timeline) == [
        ("A", "not taken: too dear"),
        ("B", "not taken: gone"),
        ("C", "no answer: timeout"),
        ("D", "taken: pod p1 at 0.2 USD per hour"),
        ("E", "no answer yet"),
    ]
    assert [(what, after) for _, what, after in summary.moments(timeline)] == [
        ("requested", "0 s"),
        ("rented", "6 s"),
        ("online", "8 s"),
    ]
    page = "\n".join(summary.of_start({"label": "rp-x", "pod-id": ""}, timeline, None))
    assert "| label | rp-x |" in page
    assert "pod-id" not in page


def test_a_start_that_failed_at_once_has_a_page(tmp_path: Path) -> None:
    """Why, and nothing else."""
    session = session_in(tmp_path)
    summary.publish(session, "GPU runner x", summary.of_start(None, [], "no *key*"))
    assert (tmp_path / "page").read_text() == "### GPU runner x\n\nNo runner: `no *key*`\n\n"


def test_a_long_table_is_cut() -> None:
    """At two hundred rows, and says so."""
    text = summary.table(("n",), [(number,) for number in range(250)])
    assert text.count("\n|") == 201
    assert "and 50 more" in text


def test_a_page_is_never_too_long(tmp_path: Path) -> None:
    """GitHub shows nothing of a page of more than 1 MiB."""
    summary.publish(session_in(tmp_path), "x", ["é" * summary.LIMIT])
    data = (tmp_path / "page").read_bytes()
    assert len(data) <= summary.LIMIT
    assert data.decode().endswith("did not fit.\n")


def test_no_page_outside_of_a_workflow_and_none_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is a courtesy."""
    summary.publish(Session(settings=Settings.read({}, home=tmp_path, cwd=tmp_path), as_json=False), "x", [])
    assert capsys.readouterr().err == ""
    summary.publish(session_in(tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path)), "x", [])
    assert "cannot be written" in capsys.readouterr().err


def test_the_page_of_a_cleanup_has_all_that_was_seen() -> None:
    """Ended, left alone, cancelled, still there, not looked at."""
    entry = {"kind": "pod", "name": "n", "id": "i", "state": None, "price-per-hour": "1", "reason": "old"}
    stuck = {"run-id": "7", "job": "train", "queued-at": "then"}
    seen = {"ended": [entry], "kept": [entry], "cancelled": [stuck], "left": ["pod n"], "errors": ["no answer"]}
    data = {"dry-run": False, **seen}
    text = "\n".join(summary.of_cleanup(data))
    assert [word in text for word in ("Ended:", "Left alone:", "Still there:", "Could not be looked at:")] == [True] * 4
    assert "| pod | n | i | - | 1 | old |" in text
    assert "| 7 | train | then |" in text


# -- the cost


@pytest.mark.parametrize(
    "text", [pytest.param("2026-11-21T08:00:00Z", id="utc"), pytest.param("2026-11-21T08:00:00", id="no-zone")]
)
def test_a_moment_is_read(text: str) -> None:
    """Without a zone it is UTC."""
    moment = datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert Moment().convert(text, None, None) == moment
    assert Moment().convert(moment, None, None) == moment


def test_what_is_no_moment_is_refused() -> None:
    """With an example."""
    with pytest.raises(click.BadParameter, match="2026-11-21T08:44:35Z"):
        Moment().convert("today", None, None)


class Jobs:
    """A GitHub that knows one job, or fails."""

    def __init__(self, runner: str = KEY.name, error: RemoteError | None = None) -> None:
        """`runner` has run it, for an hour."""
        self._runner = runner
        self._error = error

    async def jobs(self, *_of: object) -> list[SimpleNamespace]:
        """The one."""
        if self._error is not None:
            raise self._error
        return [SimpleNamespace(runner_name=self._runner, completed_at=EPOCH + timedelta(hours=1))]


def program(runs: object | None) -> Program:
    """As much of a program as is needed; it is three hours past the beginning."""
    clock = SimpleNamespace(now=lambda: EPOCH + timedelta(hours=3))
    github = None if runs is None else SimpleNamespace(runs=runs)
    cleaned = getattr(runs, "cleaned_up", None)
    return cast("Program", SimpleNamespace(clock=clock, github=github, cleaned=cleaned))


RATE = Rate(price=Decimal("0.50"), since=EPOCH)
ENDED = [Ended(name=KEY.name, pods=("p",))]
LOCAL = RunKey(owner8="0" * 8, run="abc", attempt=0, key="default")


@pytest.mark.parametrize(
    ("runs", "rate", "ended", "key", "wanted"),
    [
        pytest.param(Jobs(), RATE, [], KEY, "0.5000", id="job"),
        pytest.param(Jobs(), RATE, ENDED, KEY, "1.5000", id="ended-now"),
        pytest.param(Jobs("other"), RATE, [], KEY, None, id="other-job"),
        pytest.param(Jobs(error=PermissionDenied("no")), RATE, [], KEY, None, id="no-permission"),
        pytest.param(Jobs(), Rate(price=Decimal(1)), ENDED, KEY, None, id="no-beginning"),
        pytest.param(Jobs(), Rate(since=EPOCH), ENDED, KEY, None, id="no-price"),
        pytest.param(
            Jobs(), Rate(price=Decimal(1), since=EPOCH + timedelta(days=1)), [], KEY, None, id="ends-before-it-begins"
        ),
        pytest.param(None, RATE, [], KEY, None, id="no-github"),
        pytest.param(Jobs(), RATE, [], LOCAL, None, id="no-run"),
    ],
)
async def test_the_cost_is_known_or_unknown(
    runs: Jobs | None, rate: Rate, ended: list[Ended], key: RunKey, wanted: str | None
) -> None:
    """Until the job completed, or until now for what was ended just now; never a guess."""
    one = program(runs)
    found = await spent(RunJobs(one, PLACE), key, rate, ended, one.clock.now())
    assert (None if found is None else str(found)) == wanted


AGAIN = replace(KEY, attempt=2)
HOUR = timedelta(hours=1)


def pod_seen(key: RunKey, **values: object) -> list[Ended]:
    """A stop that has ended this one pod of the key, which it saw like this before."""
    told: dict[str, Any] = {"state": PodState.RUNNING, "price": Decimal("0.50"), "created_at": EPOCH, **values}
    pod = Pod(provider="fake", id=PodId("p"), name=key.name, **told)
    return [Ended(name=key.name, pods=("p",), first=Observation(pods=(pod,), runner=None))]


LOST = Interruption(
    name=KEY.name, label="rp-a", provider="fake", pod="p", machine=None, reason="interrupted", at=EPOCH + 3 * HOUR
)
TAKEN = {"state": PodState.INTERRUPTED, "stopped_at": EPOCH + HOUR / 2}


@pytest.mark.parametrize(
    ("ended", "interruption", "wanted"),
    [
        pytest.param(pod_seen(KEY, **TAKEN), LOST, "0.2500", id="taken-then"),
        pytest.param(pod_seen(KEY, **{**TAKEN, "stopped_at": None}), LOST, None, id="taken-some-time"),
        pytest.param(pod_seen(KEY, **TAKEN), None, "0.2500", id="taken-after-its-job"),
        pytest.param([Ended(name=KEY.name, pods=())], LOST, None, id="vanished"),
    ],
)
async def test_a_pod_that_was_taken_back_costs_nothing_after_that(
    ended: list[Ended], interruption: Interruption | None, wanted: str | None
) -> None:
    """However late the stop comes; nobody guesses when that was."""
    one = program(Jobs())
    found = await spent(RunJobs(one, PLACE), KEY, RATE, ended, one.clock.now(), interruption)
    assert (None if found is None else str(found)) == wanted


@pytest.mark.parametrize(
    ("ended", "since", "wanted"),
    [
        pytest.param(pod_seen(AGAIN, created_at=EPOCH + 2 * HOUR, price=Decimal(2)), EPOCH, "2.0000", id="seen"),
        pytest.param(pod_seen(AGAIN, created_at=EPOCH + 2 * HOUR, price=None), EPOCH, None, id="seen-no-price"),
        pytest.param(pod_seen(AGAIN, created_at=None), EPOCH, "1.5000", id="seen-no-beginning"),
        pytest.param(
            pod_seen(AGAIN, created_at=EPOCH + HOUR / 3 * 6.0001, price=Decimal(9)),
            EPOCH + 2 * HOUR,
            "0.5000",
            id="within-a-second",
        ),
        pytest.param([], EPOCH + HOUR / 2, None, id="gone-and-of-the-attempt-before"),
        pytest.param([], EPOCH + HOUR, "0.0000", id="gone-and-of-this-attempt"),
    ],
)
async def test_what_an_earlier_start_said_is_not_held_against_a_later_pod(
    ended: list[Ended], since: datetime, wanted: str | None
) -> None:
    """A re-run of failed jobs repeats the stop and not the start, whose outputs it still gets."""
    one = program(Jobs(AGAIN.name))
    rate = Rate(price=Decimal("0.50"), since=since)
    found = await spent(RunJobs(one, PLACE), AGAIN, rate, ended, one.clock.now())
    assert (None if found is None else str(found)) == wanted


# -- the scheduled clean-up


@pytest.fixture
def github() -> Iterator[respx.MockRouter]:
    """A GitHub that answers what a test has laid out."""
    with respx.mock(assert_all_called=False, using=None) as router:
        yield router


@pytest.fixture
def runs(github: respx.MockRouter) -> GitHubRuns:
    """Runs of that GitHub."""
    plumbing = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=httpx.MockTransport(github.async_handler),
    )
    return connect(PLACE.scope, TokenCredential(token="ghp_planted1234"), plumbing=plumbing).runs


def run(**changes: object) -> dict[str, object]:
    """A scheduled clean-up that succeeded."""
    moment = EPOCH.isoformat().replace("+00:00", "Z")
    base = {"id": 7, "name": "Nightly", "path": ".github/workflows/gpu-cleanup.yml", "event": "schedule"}
    return {**base, "conclusion": "success", "created_at": moment, **changes}


def steps(end: str, name: str = CLEANING_STEP) -> list[dict[str, str]]:
    """Of a job that cleans up."""
    return [{"name": "Set up job", "conclusion": "success"}, {"name": name, "conclusion": end}]


SKIPPED, HALF, FOREIGN = 8, 9, 10
# By run, of each of its jobs.
STEPS = {
    7: [steps("success")],
    SKIPPED: [steps("skipped")],
    HALF: [steps("skipped"), steps("success")],
    FOREIGN: [steps("skipped", "Send a mail")],
}
CLEAN = {
    "by-file": ([run()], True),
    "by-name": ([run(path="x.yml", name="GPU Clean-up")], True),
    "none": ([], False),
    "without-credentials": ([run(id=SKIPPED)], False),
    "without-credentials-of-late": ([run(id=SKIPPED), run()], False),
    "one-of-two-without-credentials": ([run(id=SKIPPED, path=".github/workflows/cleanup.yml"), run()], True),
    "one-of-two-calls-without-credentials": ([run(id=HALF)], True),
    "by-steps-of-its-own": ([run(id=FOREIGN)], True),
    "too-many-and-one-without-credentials": ([run(id=SKIPPED), *[run(path="x.yml")] * 29], False),
    "by-exact-file": ([run(path=".github/workflows/scheduled-cleanup.yml")], True),
    "by-exact-file-at-a-ref": ([run(path=".github/workflows/clean_up.yaml@refs/heads/main")], True),
    "of-runners": ([run(path="x.yml", name="Runner cleanup")], True),
    "another": ([run(path="x.yml", name="CI")], False),
    "of-caches": ([run(path=".github/workflows/cleanup-caches.yml", name="Clean-up")], False),
    "words-apart": ([run(path=".github/workflows/cache-cleanup.yml", name="GPU")], False),
    "without-a-name": ([run(path=None, name=None)], False),
    "by-hand": ([run(event="workflow_dispatch")], False),
    "failed": ([run(conclusion="failure")], False),
    "old": ([run(created_at="2020-01-01T00:00:00Z")], False),
    "too-many": ([run(path="x.yml")] * 30, None),
    "many-old": ([run(path="x.yml")] * 29 + [run(path="x.yml", created_at="2020-01-01T00:00:00Z")], False),
}


@pytest.mark.parametrize("case", CLEAN)
async def test_a_cleanup_is_recognised(github: respx.MockRouter, runs: GitHubRuns, case: str) -> None:
    """In one request and one for each clean-up; what cannot be told is neither yes nor no."""
    found, wanted = CLEAN[case]
    route = github.get(RUNS).respond(json={"total_count": len(found), "workflow_runs": found})
    for run_id, ends in STEPS.items():
        jobs = [{"name": "Clean up", "steps": steps} for steps in ends]
        github.get(f"{RUNS}/{run_id}/jobs").respond(json={"total_count": len(jobs), "jobs": jobs})
    assert await runs.cleaned_up("octo/app", EPOCH - timedelta(hours=1)) is wanted
    assert route.call_count == 1
    assert dict(route.calls[0].request.url.params) == {"event": "schedule", "status": "success", "per_page": "30"}


class Sweeps:
    """A GitHub that knows whether somebody cleans up, or fails."""

    def __init__(self, *, answer: bool | RemoteError | None) -> None:
        """What it says."""
        self._answer = answer
        self.asked = 0

    async def cleaned_up(self, *_of: object) -> bool | None:
        """Says it."""
        self.asked += 1
        if isinstance(self._answer, RemoteError):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "warned"),
    [
        pytest.param(False, True, id="nobody"),
        pytest.param(True, False, id="somebody"),
        pytest.param(None, False, id="unknown"),
        pytest.param(PermissionDenied("no"), False, id="not-allowed"),
    ],
)
async def test_a_start_warns_when_nobody_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, answer: bool | RemoteError | None, warned: bool
) -> None:
    """Only when it is known, and it never fails for it."""
    await warn_unless_cleaned(session_in(tmp_path), program(Sweeps(answer=answer)), PLACE)
    assert (WARNING in capsys.readouterr().err) is warned


async def test_outside_of_a_workflow_nobody_is_asked(tmp_path: Path) -> None:
    """Nor where there is no repository to ask about."""
    sweeps = Sweeps(answer=False)
    outside = Session(settings=Settings.read({}, home=tmp_path, cwd=tmp_path), as_json=False)
    organisation = Place(scope=Scope.parse("octo"), owner8="0" * 8, repository=None)
    await warn_unless_cleaned(outside, program(sweeps), PLACE)
    await warn_unless_cleaned(session_in(tmp_path), program(sweeps), organisation)
    await warn_unless_cleaned(session_in(tmp_path), program(None), PLACE)
    assert sweeps.asked == 0
