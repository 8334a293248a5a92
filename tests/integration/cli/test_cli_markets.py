"""`pods` over several markets at once, each a service on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.names import ManualName
from runner_provisioner.simulators.celium import CeliumSimulator
from runner_provisioner.simulators.prime import PrimeSimulator

if TYPE_CHECKING:
    from integration.cli.conftest import Result, Services

A4000 = ("--gpu-type", "RTX A4000")
BARE = ("--image", "ubuntu_22_cuda_12")
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Markets:
    """Three markets, and the command line with a key for each."""

    services: Services
    prime: PrimeSimulator
    celium: CeliumSimulator
    environment: dict[str, str]

    def pods(self, *arguments: str, **more: str) -> Result:
        """Run `pods` with these arguments."""
        return self.services.run("pods", *arguments, **{**self.environment, **more})


@pytest.fixture
def markets(services: Services) -> Iterator[Markets]:
    """Each with money and something for rent."""
    clock = SystemClock()
    with (
        PrimeSimulator(clock) as prime,
        CeliumSimulator(clock) as celium,
        prime.serve() as prime_server,
        celium.serve() as celium_server,
    ):
        environment = {
            "PRIME_API_BASE_URL": prime_server.url,
            "PRIME_API_KEY": prime.key,
            "LIUM_BASE_URL": f"{celium_server.url}/api",
            "LIUM_API_KEY": celium.key,
        }
        yield Markets(services, prime, celium, environment)


def test_a_pod_without_a_kill_time_is_rented_where_it_was_named_and_said_to_need_an_end(markets: Markets) -> None:
    """Listed with its end by its name, and ended by its id alone."""
    made = markets.pods("create", *A4000, *BARE, "--provider", "prime")
    assert made.code == 0, made.err
    (pod,) = markets.prime.live()
    end = f"end it with 'runner-provisioner pods terminate {pod.id}'"
    assert f"warning: prime ends no pod by itself: {end}; a 'cleanup' that looks for its owner" in made.err
    assert "it ends by itself" not in made.err
    named = ManualName.parse(pod.name)
    assert named is not None
    assert named.expires_at.strftime("%Y-%m-%d %H:%M UTC") in markets.pods("list").out
    assert markets.pods("terminate", pod.id).out == f"{pod.id}: ended\n"
    assert markets.prime.live() == []
    (row,) = [line for line in markets.pods("history").out.splitlines() if line.startswith(pod.id)]
    assert re.search(r" \d+\.\d{2,4} ", row), row


@pytest.mark.full
def test_a_pod_that_no_clean_up_could_find_is_said_to_be_such(markets: Markets) -> None:
    """Its user has named it, and Prime Intellect gives no tags back."""
    made = markets.pods("create", *A4000, *BARE, "--provider", "prime", "--name", "mine")
    assert "no clean-up can tell by its name that it is yours" in made.err


@pytest.mark.full
def test_of_all_markets_one_that_ends_no_pod_is_left_out(markets: Markets) -> None:
    """The others are rented from; where there is none the remedy is said."""
    made = markets.pods("create", *A4000, "--image", "python:3.11")
    assert made.code == 0, made.err
    assert (markets.prime.live(), len(markets.celium.live())) == ([], 1)
    assert "it ends by itself after 1d" in made.err
    alone = markets.pods("create", *A4000, *BARE, LIUM_API_KEY="", RUNPOD_API_KEY="")
    assert alone.code == 20
    assert "give --provider prime if you will end it" in alone.err
    assert markets.prime.live() == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        pytest.param(("--image", "python:3.11"), 20, r"no image 'python:3.11' \(it has .*custom template", id="image"),
        pytest.param((*BARE, "--docker-args", "x"), 2, r"no start command \(--docker-args\)", id="command"),
        pytest.param((*BARE, "--env", "A=B"), 2, "passes no environment", id="environment"),
        pytest.param((*BARE, "--name", "Not so!"), 2, "letters, digits and dashes", id="name"),
    ],
)
def test_what_a_market_cannot_is_said_in_one_line(
    markets: Markets, more: tuple[str, ...], code: int, said: str
) -> None:
    """Nothing is rented."""
    result = markets.pods("create", *A4000, *more, "--provider", "prime")
    assert (result.code, len(result.errors)) == (code, 1), result.err
    assert re.search(said, result.err)
    assert markets.prime.pods() == []


@pytest.mark.full
def test_a_market_that_is_down_is_said_and_the_others_are_shown(markets: Markets) -> None:
    """Alone it is the one error; a create goes on without it."""
    markets.services.runpod.add_pod("there")
    result = markets.pods("list", PRIME_API_BASE_URL=NOWHERE)
    assert (result.code, "there" in result.out) == (11, True)
    assert "warning: prime could not be looked at" in result.err
    alone = markets.pods("list", "--provider", "prime", PRIME_API_BASE_URL=NOWHERE)
    assert (alone.code, alone.err.count("prime listPods")) == (11, 1)
    made = markets.pods("create", *A4000, "--image", "python:3.11", PRIME_API_BASE_URL=NOWHERE)
    assert made.code == 0, made.err
    assert "not renting from prime, which could not be asked" in made.err


@pytest.mark.full
@pytest.mark.parametrize(
    ("variable", "value", "arguments", "code"),
    [
        pytest.param("PRIME_API_KEY", "pit_wrong-key", "list --provider prime", 4, id="key of Prime Intellect"),
        pytest.param("LIUM_API_KEY", "sk_wrong-key", "ssh-keys --provider celium", 4, id="key of Lium"),
        pytest.param("PRIME_API_KEY", "", "history --provider prime", 3, id="no key"),
        pytest.param("PRIME_TEAM_ID", "two\nlines", "list --provider prime", 2, id="team"),
        pytest.param("PRIME_API_BASE_URL", "http://example.com", "list", 2, id="address"),
    ],
)
def test_a_credential_that_will_not_do_is_named_and_never_shown(
    markets: Markets, variable: str, value: str, arguments: str, code: int
) -> None:
    """One line, the exit code of its class."""
    result = markets.pods(*arguments.split(), **{variable: value})
    assert (result.code, len(result.errors)) == (code, 1), result.err
    assert variable in result.errors[0]
    assert "wrong-key" not in result.out + result.err


@pytest.mark.full
def test_a_command_that_only_some_can_says_who_cannot(markets: Markets) -> None:
    """Where nobody can, another provider is asked for."""
    assert "celium remembers no pods" in markets.pods("history").err
    refused = markets.pods("create-template", "--name", "x", "--image", "a/b:1", "--provider", "prime")
    assert (refused.code, "name another with --provider" in refused.err) == (2, True)
    assert (
        "usable: yes" in markets.pods("create-template", "--name", "x", "--image", "a/b:1", "--provider", "celium").out
    )
    stopped = markets.pods("create", *A4000, *BARE, "--provider", "prime", "--json").data["id"]
    assert "prime can neither stop nor resume pods" in markets.pods("stop", stopped).err
