"""What is built for providers whose pods boot bare."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.fakes import FakeProvider, Memory, offer

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodId, PodState
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.domain.runners import Registration, RunnerDownload
from runner_provisioner.errors import ServerError
from runner_provisioner.services.provision import Order
from runner_provisioner.settings import Settings
from runner_provisioner.testing.clock import EPOCH, FakeClock
from runner_provisioner.wiring import Place, Program

TOKEN = "AAAAPLANTEDTOKEN0123456789AAA"
MINE = "ssh-ed25519 MINE me@home"


class Bare(FakeProvider):
    """Its pods boot bare; the account has these keys."""

    starts_over_ssh = True

    def __init__(self, *keys: str) -> None:
        super().__init__(FakeClock(), name="prime")
        self.keys = list(keys)

    async def ssh_keys(self) -> list[str]:
        """The account's."""
        self.meet("ssh_keys")
        return self.keys


def program(folder: Path, *providers: FakeProvider, key: str = "pit_planted") -> Program:
    """A program with these providers."""
    environ = {"PRIME_API_KEY": key, "RUNPOD_API_KEY": "rpa_planted", "GITHUB_REPOSITORY": "o/r"}
    environ["XDG_STATE_HOME"] = str(folder)
    clock, tempo, redactor = FakeClock(), Tempo(), Redactor()
    plumbing = Plumbing(clock=clock, redactor=redactor, tempo=tempo, metrics=CallMetrics(), user_agent="test")
    settings = Settings.read(environ, home=folder, cwd=folder)
    return Program(
        settings=settings,
        clock=clock,
        tempo=tempo,
        metrics=plumbing.metrics,
        redactor=redactor,
        events=Memory(),
        plumbing=plumbing,
        providers={one.name: one for one in providers},
        place=Place.of(settings, repository=None, organization=None, owner=None),
    )


def run_key(made: Program) -> RunKey:
    """Of a run."""
    assert made.place is not None
    return RunKey(owner8=made.place.owner8, run="zz", attempt=1, key="default")


def order(made: Program, *, ssh_keys: tuple[str, ...] = ()) -> Order:
    """A start."""
    key = run_key(made)
    state = made.settings.state_dir / f"{key.name}.json"
    return made.order(StartRequest(), key, state=state, ssh_keys=ssh_keys)[0]


def script(command: str) -> str:
    """What a start command holds."""
    found = re.search(r"printf %s ([A-Za-z0-9+/=]+)\|base64", command)
    assert found is not None
    return zlib.decompress(base64.b64decode(found[1]), wbits=31).decode()


def test_the_login_key_follows_from_the_accounts_key_alone(tmp_path: Path) -> None:
    """So that every start of the account has the same, and no other account's."""
    first, second = order(program(tmp_path / "1", Bare())), order(program(tmp_path / "2", Bare()))
    other = order(program(tmp_path / "3", Bare(), key="pit_other"))
    assert first.over_ssh is not None
    assert second.over_ssh is not None
    assert other.over_ssh is not None
    assert first.over_ssh.public_keys == second.over_ssh.public_keys
    assert first.over_ssh.public_keys != other.over_ssh.public_keys
    assert first.hands_over
    assert "PRIVATE" not in repr(first)


def test_without_such_a_provider_nothing_is_started_over_ssh(tmp_path: Path) -> None:
    """And no pod is asked whether it waits."""
    made = order(program(tmp_path, FakeProvider(FakeClock(), name="runpod")))
    assert made.over_ssh is None
    assert not made.hands_over


def test_a_bare_machine_keeps_its_host_key_and_its_name_for_the_gpu(tmp_path: Path) -> None:
    """Another provider's pod of the same start gets a host key, and its model is compared."""
    made = order(program(tmp_path, Bare(), FakeProvider(FakeClock(), name="runpod")), ssh_keys=(MINE,))
    token = Registration(url="https://github.com/o/r", token=TOKEN, expires_at=EPOCH + timedelta(hours=1))
    download = RunnerDownload(version="2.0.0", url="https://github.com/x.tar.gz", sha256="0" * 64)
    drawn = {
        name: made.draw_up(offer("NVIDIA A40", provider=name), timedelta(hours=1), token, download)
        for name in ("prime", "runpod")
    }
    gates = {
        name: zlib.decompress(base64.b64decode(spec.env["RP_GATE"]), wbits=31).decode() for name, spec in drawn.items()
    }
    assert "gpu='A40'" in gates["runpod"] or "gpu=A40" in gates["runpod"]
    assert "A40" not in gates["prime"]
    assert {name: "RP_HOST_KEY" in spec.env for name, spec in drawn.items()} == {"prime": False, "runpod": True}
    texts = {name: script(spec.command or "") for name, spec in drawn.items()}
    assert {name: "OPENSSH PRIVATE" in text for name, text in texts.items()} == {"prime": False, "runpod": True}
    assert all(TOKEN in text for text in texts.values())
    assert drawn["prime"].env["PUBLIC_KEY"] == MINE
    bare = drawn["prime"].bare("ssh-ed25519 OURS")
    assert (bare.command, bare.env, bare.image, bare.login_key) == (None, {}, "", "ssh-ed25519 OURS")
    assert bare.tags == drawn["prime"].tags


async def test_the_accounts_keys_are_let_in_without_our_own(tmp_path: Path) -> None:
    """A pod lets the one that the create names in: the user's come with the start."""
    provider = Bare(MINE)
    made = program(tmp_path, provider)
    built = order(made)
    assert built.over_ssh is not None
    provider.keys.append(built.over_ssh.public_keys["prime"] + " runner-provisioner")
    assert await made.public_keys(StartRequest(), ()) == (MINE,)
    assert await made.public_keys(StartRequest(), ("ssh-rsa own",)) == ("ssh-rsa own",)


async def test_an_account_whose_keys_cannot_be_read_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """The job needs none."""
    provider = Bare(MINE)
    provider.add("ssh_keys", ServerError("500"))
    assert await program(tmp_path, provider).public_keys(StartRequest(), ()) == ()


@pytest.mark.parametrize("there", [True, False], ids=["here", "elsewhere"])
def test_a_pod_without_tags_is_known_by_its_state_file(tmp_path: Path, *, there: bool) -> None:
    """Its label, and the host key that was seen first; a pod with tags says all that itself."""
    made = program(tmp_path, Bare())
    built = order(made)
    name = run_key(made).name if there else "rp-0123abcd-other-1-default"
    pod = Pod(provider="prime", id=PodId("p1"), name=name, state=PodState.RUNNING)
    if there:
        made.host_keys.pin(pod, "ssh-ed25519 A")
    found = made.remembered(pod)
    assert found.pinned == ("ssh-ed25519 A" if there else None)
    assert (found.tags is not None and found.tags.label == built.label) is there
    if found.tags is not None:
        tagged = replace(pod, tags=replace(found.tags, label="rp-other"))
        assert made.remembered(tagged) is tagged
