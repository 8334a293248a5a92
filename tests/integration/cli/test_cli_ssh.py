"""Logging in to a pod with OpenSSH, against a real sshd on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.sshd import Server, needs_sshd

if TYPE_CHECKING:
    from integration.cli.conftest import Result, Services


def _login(services: Services, sshd: Server, host_key: str | None, *more: str) -> Result:
    services.monkeypatch.setattr(
        "runner_provisioner.simulators.runpod.simulator.inert_address", lambda *_: ("127.0.0.1", sshd.port)
    )
    env = {"RP_OWNER": "0" * 8, "RP_CLASS": "runner"} | ({"RP_HOST_KEY": host_key} if host_key else {})
    pod = services.runpod.add_pod("rp-00000000-1-1-default", env=env)
    # Not the login shell of whoever runs the tests, nor its agent.
    return services.run("ssh", "-i", str(sshd.identity), *more, pod.id, "--", "echo", "logged", "in")


@needs_sshd
def test_the_right_host_key_connects(services: Services, sshd: Server) -> None:
    """Without a question and without a warning; the temporary known_hosts is gone afterwards."""
    temporary = services.folder / "temporary"
    temporary.mkdir()
    services.monkeypatch.setattr("tempfile.tempdir", str(temporary))
    result = _login(services, sshd, sshd.host_key)
    assert (result.code, result.out) == (0, "logged in\n"), result.err
    assert list(temporary.iterdir()) == []
    assert not (services.folder / ".ssh" / "known_hosts").exists()


@needs_sshd
def test_another_host_key_is_refused(services: Services, sshd: Server) -> None:
    """Somebody else answers at the pod's address."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
    result = _login(services, sshd, other)
    assert (result.code, result.out) == (255, "")
    assert "Host key verification failed" in result.err


@needs_sshd
def test_a_pod_without_a_key_of_its_own_needs_trust_first(services: Services, sshd: Server) -> None:
    """Accepting what one is shown is a choice, made by name."""
    refused = _login(services, sshd, None)
    assert (refused.code, refused.out) == (2, "")
    assert "--trust-first accepts what it shows" in refused.errors[0]
    assert _login(services, sshd, None, "--trust-first").out == "logged in\n"


@needs_sshd
def test_trust_first_does_not_weaken_a_known_key(services: Services, sshd: Server) -> None:
    """Where the pod says its key, the key is checked."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
    assert _login(services, sshd, other, "--trust-first").code == 255


@needs_sshd
def test_the_exit_code_is_that_of_the_command(services: Services, sshd: Server) -> None:
    """As with ssh itself."""
    services.monkeypatch.setattr(
        "runner_provisioner.simulators.runpod.simulator.inert_address", lambda *_: ("127.0.0.1", sshd.port)
    )
    env = {"RP_OWNER": "0" * 8, "RP_CLASS": "runner", "RP_HOST_KEY": sshd.host_key}
    pod = services.runpod.add_pod("rp-00000000-1-1-default", env=env)
    assert services.run("ssh", "-i", str(sshd.identity), pod.id, "exit 7").code == 7


@needs_sshd
def test_a_signal_leaves_no_file_and_no_process(services: Services, sshd: Server) -> None:
    """SIGTERM to the command ends ssh too."""
    services.monkeypatch.setattr(
        "runner_provisioner.simulators.runpod.simulator.inert_address", lambda *_: ("127.0.0.1", sshd.port)
    )
    env = {"RP_OWNER": "0" * 8, "RP_CLASS": "runner", "RP_HOST_KEY": sshd.host_key}
    pod = services.runpod.add_pod("rp-00000000-1-1-default", env=env)
    temporary = services.folder / "tmp"
    temporary.mkdir()
    with services.spawn(
        "ssh", "-i", str(sshd.identity), pod.id, "echo here; sleep 60", environment={"TMPDIR": str(temporary)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        (folder,) = temporary.iterdir()
        (known_hosts,) = folder.iterdir()
        assert (folder.stat().st_mode & 0o777, known_hosts.stat().st_mode & 0o777) == (0o700, 0o600)
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 143
    assert list(temporary.iterdir()) == []


def test_json_says_how_to_connect(services: Services) -> None:
    """And does not connect."""
    env = {"RP_OWNER": "0" * 8, "RP_CLASS": "runner", "RP_HOST_KEY": "ssh-ed25519 AAAA"}
    pod = services.runpod.add_pod("rp-00000000-1-1-default", env=env)
    data = services.run("ssh", pod.id, "--json").data
    assert data["host-key"] == "ssh-ed25519 AAAA"
    assert data["ssh-command"] == f"ssh -p {data['port']} root@{data['host']}"


def test_the_pod_of_a_run_is_found_by_its_name(services: Services) -> None:
    """No id needed; a name without a pod is said."""
    services.usher()
    run_id = str(services.github.queue_job("octo/hello", ["nobody"]))
    assert services.run("start", "--run-id", run_id, "--attempt", "1").code == 0
    (pod,) = services.runpod.live()
    assert services.run("ssh", "--run-id", run_id, "--json").data["pod-id"] == pod.id
    missing = services.run("ssh", "--run-id", "qwertyui")
    assert missing.code == 6
    assert "no running pod named" in missing.errors[0]


def test_a_pod_without_ssh_says_so(services: Services) -> None:
    """It boots still, or exposes no port."""
    services.runpod.settings.inert_ssh = False
    pod = services.runpod.add_pod("rp-00000000-1-1-default")
    result = services.run("ssh", pod.id)
    assert result.code == 2
    assert "has no public SSH port (it is" in result.errors[0]


def test_without_openssh_it_says_what_to_install(services: Services) -> None:
    """Not a traceback."""
    assert "install the OpenSSH client" in services.run("ssh", "x", PATH="/nonexistent").errors[0]
