"""Providers on the command line: narrowing, what they keep beside pods, and what is said where one cannot."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.runners import provider_label
from runner_provisioner.providers import runpod_plugin

if TYPE_CHECKING:
    from integration.cli.conftest import Services

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKeptAtTheAccount me"


@pytest.mark.parametrize(
    "command",
    [
        "start",
        "plan",
        "offers",
        "stop --run-id 7",
        "cleanup",
        "status",
        "pods list",
        "gpu-types",
        "pods history",
        "costs",
    ],
)
def test_an_unknown_provider_is_refused_with_the_nearest(services: Services, command: str) -> None:
    """Exit code 2, before anything is sent."""
    result = services.run(*command.split(), "--provider", "runpot")
    assert result.code == 2, result.err
    assert result.errors == ["error: no provider 'runpot': did you mean runpod?"]
    assert not services.runpod.calls


@pytest.mark.parametrize("command", ["offers", "status", "pods list", "gpu-types", "cleanup --dry-run", "costs"])
def test_a_command_can_be_narrowed(services: Services, command: str) -> None:
    """To the one that there is: nothing changes."""
    narrowed = services.run(*command.split(), "--provider", "runpod")
    assert narrowed.code == 0, narrowed.err
    assert narrowed.out == services.run(*command.split()).out


def test_without_a_key_every_variable_that_would_do_is_named(services: Services) -> None:
    """And where was looked."""
    result = services.run("pods", "list", RUNPOD_API_KEY="")
    assert result.code == 3
    assert "set one of RUNPOD_API_KEY (or RUNPOD_KEY) for RunPod" in result.err


def test_an_api_of_runpods_that_is_none_is_refused(services: Services) -> None:
    """With the two that there are."""
    result = services.run("pods", "list", RUNPOD_API="soap")
    assert (result.code, "RUNPOD_API must be graphql or rest" in result.err) == (2, True)


def test_templates_come_and_go(services: Services) -> None:
    """Made, listed, removed; removed twice is fine."""
    assert services.run("pods", "templates").out == "no templates\n"
    made = services.run(
        "pods", "create-template", "--name", "mine", "--image", "acme/app:1", "--env", "A=b", "--json"
    ).data
    assert (made["name"], made["provider"], made["usable"]) == ("mine", "runpod", True)
    listed = services.run("pods", "templates").out
    assert made["id"] in listed
    assert "acme/app:1" in listed
    for _ in range(2):
        assert services.run("pods", "delete-template", made["id"]).code == 0
    assert services.run("pods", "templates", "--json").data["templates"] == []


def test_an_image_that_is_none_makes_no_template(services: Services) -> None:
    """One line that names the option."""
    result = services.run("pods", "create-template", "--name", "x", "--image", "two words")
    assert result.code == 2
    assert "--image" in result.err


def test_the_keys_of_the_account_are_shown(services: Services) -> None:
    """With whose they are."""
    services.runpod.settings.public_keys = KEY
    result = services.run("pods", "ssh-keys")
    assert (result.code, KEY in result.out, "runpod" in result.out) == (0, True, True)
    assert services.run("pods", "ssh-keys", "--json").data["ssh-keys"] == [{"provider": "runpod", "key": KEY}]


def test_pods_of_the_past_are_listed(services: Services) -> None:
    """With what they cost."""
    assert services.run("pods", "history").out == "no pods of the past\n"
    pod = services.runpod.add_pod("gone")
    assert services.run("pods", "terminate", pod.id).code == 0
    (told,) = services.run("pods", "history", "--json").data["pods"]
    assert (told["id"], told["provider"]) == (pod.id, "runpod")
    assert pod.id in services.run("pods", "history", "--limit", "1").out


def test_the_log_of_a_container_is_shown(services: Services) -> None:
    """As lines, or as data."""
    pod = services.runpod.add_pod("talks")
    plain = services.run("pods", "logs", pod.id, "--tail", "5")
    assert plain.code == 0, plain.err
    data = services.run("pods", "logs", pod.id, "--json").data
    assert (data["id"], [one["text"] for one in data["lines"]][-5:]) == (pod.id, plain.out.splitlines())
    missing = services.run("pods", "logs", "nope")
    assert (missing.code, "no pod 'nope'" in missing.err) == (6, True)


class Plain:
    """A provider with the five verbs and nothing else."""

    name = "runpod"

    def __init__(self, whole: Any) -> None:  # noqa: ANN401 - a provider of any kind
        self.offers, self.create, self.get = whole.offers, whole.create, whole.get
        self.list, self.terminate, self.aclose = whole.list, whole.terminate, whole.aclose


def test_where_a_provider_cannot_that_is_said(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit code 2; what every provider can goes on working."""
    whole = runpod_plugin.PLUGIN
    plain = replace(whole, build=lambda account, plumbing: Plain(whole.build(account, plumbing)))
    monkeypatch.setattr(runpod_plugin, "PLUGIN", plain)
    pod = services.runpod.add_pod("mute")
    for command, said in (
        (f"pods logs {pod.id}", "runpod gives no logs"),
        ("pods history", "no provider of these remembers pods"),
        ("pods templates", "no provider of these keeps templates"),
        ("pods ssh-keys", "no provider of these keeps SSH keys"),
        (f"pods stop {pod.id}", "can neither stop nor resume pods"),
    ):
        result = services.run(*command.split())
        assert (result.code, said in result.err) == (2, True), result.err
    assert services.run("pods", "terminate", pod.id).code == 0


def test_start_and_offers_say_where_there_is_no_kill_time(services: Services, tmp_path: Path) -> None:
    """`offers` does not ask whether somebody cleans up."""
    services.runpod.settings.graphql_retired = True
    result = services.run("offers", "--json")
    assert result.code == 0, result.err
    assert {one["kill-time"] for one in result.data["offers"] if one["refused"] is None} == {False}
    assert "runpod: no kill time" in result.err
    assert "no kill time" not in services.run("offers", "--accept-no-kill-time").err
    plan = services.run("plan", "--json", "--run-id", "7")
    assert plan.code == 20
    assert any("--accept-no-kill-time" in one["reason"] for one in plan.data["skipped"])
    assert services.run("plan", "--json", "--run-id", "7", "--accept-no-kill-time").data["offers"]


def test_stuck_runs_are_not_cancelled_with_half_an_eye(services: Services) -> None:
    """A machine at another provider may be coming for them."""
    result = services.run("cleanup", "--cancel-stuck", "--provider", "runpod")
    assert (result.code, "leave --provider out" in result.err) == (2, True)


def test_a_pod_whose_provider_has_no_key_here_is_never_said_to_be_gone(services: Services) -> None:
    """`stop` ends with what may be left, `cleanup` warns; one that is narrowed was asked for less."""
    services.usher()
    services.runpod.market.spot = True
    number = services.github.queue_job("octo/hello", ["no-such-label"])
    run = {"GITHUB_RUN_ID": str(number), "GITHUB_RUN_ATTEMPT": "1"}
    started = services.run("start", "--json", **run)
    assert started.code == 0, started.err
    (path,) = services.folder.rglob("history.sqlite3")
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("UPDATE pods SET provider = 'elsewhere'")
        base.commit()
    stopped = services.run("stop", **run)
    assert stopped.code == 30, stopped.err
    assert "no key of elsewhere is here" in stopped.err
    assert not services.runpod.live()
    assert "could not look at pod" in services.run("cleanup").err
    assert services.run("cleanup", "--provider", "runpod").err.count("elsewhere") == 0


@pytest.mark.parametrize(
    ("options", "busy", "said"),
    [
        pytest.param([], False, "no key of prime is here: set it, and stop again", id="no-key"),
        pytest.param([], True, "no key of prime is here: set it, and stop again", id="no-key-and-lost-at-work"),
        pytest.param(["--provider", "runpod"], False, "--provider leaves prime out: stop again without", id="narrowed"),
    ],
)
def test_a_pod_of_which_only_its_runner_tells_is_never_said_to_be_gone(
    services: Services, options: list[str], said: str, *, busy: bool
) -> None:
    """There is no history here: the runner alone says that its pod is at a provider that nobody asks."""
    repository, server = (services.environment[name] for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL"))
    owner8 = Scope.parse(repository, server_url=server).owner8
    name = RunKey(owner8=owner8, run="7", attempt=1, key="default").name
    label = "rp-" + "a" * 26
    runner = services.github.play_runner(repository, name, (label, provider_label("prime")))
    if busy:
        services.github.queue_job(repository, [label])
        assert services.github.play_take(runner) is not None
        services.github.play_loss(runner)
    swept = services.run("cleanup", RUNNER_PROVISIONER_HISTORY="off")
    assert "could not look at" in swept.err
    assert "prime" in swept.err
    stopped = services.run("stop", "--run-id", "7", *options, RUNNER_PROVISIONER_HISTORY="off")
    assert (stopped.code, said in stopped.err) == (30, True), stopped.err
    assert "nothing left" not in stopped.out
    assert "nothing bills" not in stopped.out
    assert "lost its machine" not in stopped.err
    assert "its pod may be at prime" in stopped.out
