"""The start command: what it holds, what it hides, how long it gets."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import random
import re
import string
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from runner_provisioner.bootstrap.host_key import login_key, new_host_key
from runner_provisioner.bootstrap.render import (
    _LOCAL_NAMES,
    COMMAND_LIMIT,
    RunnerScript,
    docker_args_size,
    render,
    render_gate,
)
from runner_provisioner.domain.gate import GateFloor
from runner_provisioner.domain.request import RunAs
from runner_provisioner.domain.runners import RunnerDownload
from runner_provisioner.errors import InvalidRequest

TOKEN = "ARTOKENPLANTED7Q2W9XK4M5Z8LJ3"
KEY = new_host_key()
SCRIPT = RunnerScript(
    name="rp-1a2b3c4d-3k9x2mz-1-default",
    url="https://github.com/some-organisation/some-repository",
    token=TOKEN,
    labels=("rp-abcdefghijklmnopqrstuvwxyz", "gpu"),
    runner_group="gpu runners",
    download=RunnerDownload(
        version="2.338.0",
        url="https://github.com/actions/runner/releases/download/v2.338.0/actions-runner-linux-x64-2.338.0.tar.gz",
        sha256="af4b794c1bc41d73d40535e3fe092a39f9679cd8d965954c2aca25a05ca41d32",
    ),
    idle_seconds=600,
    lifetime_seconds=22500,
    register_seconds=1200,
    volume_mount="/workspace",
    owner="Some-Organisation",
    repository="Some-Organisation/some-repository",
    run_id=12345678901,
    graphql_url="https://api.runpod.io/graphql",
    rest_url="https://api.runpod.io/v2/",
    host_private_key=KEY.private,
    gate=GateFloor.of(
        model="NVIDIA A100-SXM4-80GB", count=8, memory_gb=80, driver="550.54.15", cuda="12.4", disk_gb=40
    ),
)


def payload(command: str) -> str:
    """The script that travels in a start command."""
    found = re.search(r"printf %s (\S+)\|base64", command)
    assert found
    return unpacked(found[1])


def unpacked(text: str) -> str:
    """What travels packed."""
    return gzip.decompress(base64.b64decode(text)).decode()


def realistic_environment() -> dict[str, str]:
    """Two kilobytes of variables such as training jobs have."""
    chance = random.Random(7)  # noqa: S311 - a repeatable example
    env = {
        "HF_HOME": "/workspace/cache/huggingface",
        "TORCH_HOME": "/workspace/cache/torch",
        "UV_CACHE_DIR": "/workspace/cache/uv",
        "WANDB_PROJECT": "nightly-evaluation",
        "NCCL_DEBUG": "WARN",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "HF_TOKEN": "hf_" + "".join(chance.choices(string.ascii_letters, k=34)),
    }
    while sum(len(name) + len(value) + 2 for name, value in env.items()) < 2048:
        env[f"EVALUATION_OPTION_{len(env):02}"] = f"/workspace/data/shards/part-{chance.randrange(10**5)}.parquet"
    return env


def test_a_realistic_command_stays_under_eight_kibibytes() -> None:
    """Also with a host key, long names and two kilobytes of environment."""
    script = dataclasses.replace(SCRIPT, job_env=realistic_environment())
    for token in (TOKEN, None):
        size = docker_args_size(render(dataclasses.replace(script, token=token)))
        assert size < COMMAND_LIMIT == 8192


def test_what_travels_with_the_gate_holds_no_secret_and_no_job_environment() -> None:
    """Anyone who may list the account's pods can read it; it is no longer than three kilobytes."""
    for jit in (False, True):
        packed = render_gate(SCRIPT.gate, jit=jit)
        text = unpacked(packed)
        assert len(packed) < 3000
        assert not any(secret in text for secret in (TOKEN, KEY.private.splitlines()[1], SCRIPT.name))
        checked = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")
        assert not re.search(r"^\s*#|^\t|\brp_[a-z]", text, re.MULTILINE)


@pytest.mark.parametrize("token", [TOKEN, None])
def test_each_function_is_in_one_of_the_two_texts_and_what_registers_is_behind_the_gate(token: str | None) -> None:
    """So a pod without its variable has nothing that could configure or start a runner."""
    first = payload(render(dataclasses.replace(SCRIPT, token=token)))
    later = unpacked(render_gate(SCRIPT.gate, jit=token is None)).partition("\n)\n")[2]
    names = re.findall(r"^([A-Z]{1,2})\(\) ", first + later, re.MULTILINE)
    assert len(names) == len(set(names)) > 30
    for text in ("run.sh", ".credentials" if token is None else "config.sh", "setpriv"):
        assert text in later
        assert text not in first


def test_the_same_script_gives_the_same_command() -> None:
    """Rendering is pure."""
    assert render(SCRIPT) == render(SCRIPT)


def test_no_secret_shows_in_the_command() -> None:
    """Neither the token, its base64, nor the host key."""
    command = render(SCRIPT)
    body = KEY.private.splitlines()[1]
    assert TOKEN not in command
    assert base64.b64encode(TOKEN.encode()).decode()[:-4] not in command
    assert body not in command
    assert TOKEN in payload(command)
    assert body in payload(command)


def test_the_script_recognises_the_command_it_came_in_by_its_mark() -> None:
    """The mark at the front of the command is one of the script's settings."""
    command = render(SCRIPT)
    mark = command.partition(";")[0].removeprefix(": ")
    assert len(mark) >= 8
    assert f"={mark}\n" in payload(command)


def test_secrets_do_not_show_in_the_repr() -> None:
    """A script can be logged by accident."""
    shown = repr(dataclasses.replace(SCRIPT, job_env={"HF_TOKEN": "hf_planted"})) + repr(KEY)
    assert TOKEN not in shown
    assert "hf_planted" not in shown
    assert KEY.private not in shown


def test_the_payload_is_valid_bash_without_comments_and_long_names() -> None:
    """It is packed small, and `bash -n` reads it."""
    text = payload(render(SCRIPT))
    checked = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert not re.search(r"^\s*#|^\t|\brp_[a-z]", text, re.MULTILINE)


def test_shortened_locals_occur_in_no_text_of_the_script() -> None:
    """What is logged, told or asked of a program keeps its words."""
    template = (resources.files("runner_provisioner.bootstrap") / "start.sh").read_text()
    told = re.findall(r"^\s*(?:.*\|\| )?(?:log|die|report|echo|rp_reason=) ?(.*)", template, re.MULTILINE)
    assert len(told) > 20
    for name in _LOCAL_NAMES.split():
        assert [text for text in told if re.search(rf"(?<![$\w{{#]){name}\b", text)] == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('it\'s "quoted" $HOME `id` \\ !', id="quotes"),
        pytest.param("first\n# not a comment\n\tindented\n", id="lines"),
        pytest.param("rp_token of rp_key", id="names-of-ours"),
        pytest.param("", id="empty"),
        pytest.param("ünï", id="not-ascii"),
    ],
)
def test_a_jobs_variable_arrives_unchanged(value: str) -> None:
    """Whatever it holds, bash exports exactly that."""
    text = payload(render(dataclasses.replace(SCRIPT, job_env={"GIVEN": value})))
    definition = text[text.index("() { export HOME") : text.index("; }\n") + 4]
    program = f'f{definition}f; printf %s "$GIVEN"'
    shown = subprocess.run(["bash", "-c", program], capture_output=True, check=True)
    assert shown.stdout.decode() == value


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"url": "http://github.com/o/r"}, "http://github.com/o/r", id="plain-http"),
        pytest.param({"graphql_url": "ftp://api.runpod.io"}, "ftp://api.runpod.io", id="ftp"),
        pytest.param({"rest_url": "api.runpod.io/v2"}, "api.runpod.io/v2", id="no-scheme"),
        pytest.param({"token": "short"}, "token", id="token"),
        pytest.param({"download": dataclasses.replace(SCRIPT.download, sha256="af4b")}, "sha256", id="digest"),
        pytest.param({"job_env": {"RP_OWNER": "x"}}, "RP_OWNER", id="our-variable"),
        pytest.param({"job_env": {"RUNPOD_API_KEY": "x"}}, "RUNPOD_API_KEY", id="the-pods-key"),
        pytest.param({"job_env": {"ACTIONS_RUNNER_INPUT_URL": "x"}}, "ACTIONS_RUNNER", id="runner-variable"),
        pytest.param({"job_env": {"A-B": "x"}}, "A-B", id="bad-name"),
        pytest.param({"job_env": {"UID": "0"}}, "UID", id="read-only-in-bash"),
        pytest.param({"job_env": {"A": "a\0b"}}, "null character", id="null-character"),
        pytest.param({"volume_mount": "/etc"}, "volume mount '/etc'", id="system-folder"),
        pytest.param({"volume_mount": "/"}, "volume mount '/'", id="root-folder"),
        pytest.param({"volume_mount": "/a/../usr"}, "volume mount '/a/../usr'", id="way-up"),
    ],
)
def test_what_cannot_work_is_refused_by_name(change: dict[str, object], named: str) -> None:
    """Before anything is rented."""
    with pytest.raises(InvalidRequest, match=re.escape(named)):
        render(dataclasses.replace(SCRIPT, **change))  # type: ignore[arg-type]


def test_loopback_may_be_plain_http() -> None:
    """For rehearsals."""
    assert render(
        dataclasses.replace(SCRIPT, graphql_url="http://127.0.0.1:1/graphql", rest_url="http://localhost:1/v2")
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param("job_env", "the job's environment", id="environment"),
        pytest.param("labels", "the labels", id="labels"),
        pytest.param("runner_group", "the runner group's name", id="group"),
    ],
)
def test_too_long_a_command_is_refused_and_says_what_to_shorten(change: str, named: str) -> None:
    """With the number of bytes that are too many."""
    noise = "".join(random.Random(1).choices(string.ascii_letters, k=6000))  # noqa: S311 - incompressible
    value = {"job_env": {"NOISE": noise}, "labels": (noise,), "runner_group": noise}[change]
    with pytest.raises(InvalidRequest, match=rf"\d+ bytes too long: shorten {named}"):
        render(dataclasses.replace(SCRIPT, **{change: value}))  # type: ignore[arg-type]


def test_missing_settings_are_empty() -> None:
    """No group, volume, repository, run or host key."""
    bare = dataclasses.replace(
        SCRIPT,
        runner_group=None,
        volume_mount=None,
        repository=None,
        run_id=None,
        host_private_key=None,
        run_as=RunAs.ROOT,
    )
    text = payload(render(bare))
    assert "--runnergroup" not in text.partition("() { export HOME")[0]
    assert "None" not in text


def test_the_host_key_is_an_openssh_key_pair() -> None:
    """The private file's public half is the public line, and no two are alike."""
    private = load_ssh_private_key(f"{KEY.private}\n".encode(), password=None)
    assert KEY.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == KEY.public
    assert new_host_key() != KEY


@pytest.mark.parametrize("name", ["start.sh", "jit.sh", "gate.sh"])
def test_the_template_is_shellcheck_clean(name: str) -> None:
    """With the directives in the file, which give their reasons."""
    program = Path(sys.executable).with_name("shellcheck")
    with resources.as_file(resources.files("runner_provisioner.bootstrap") / name) as template:
        found = subprocess.run([program, template], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_without_a_token_the_script_waits_for_a_configuration() -> None:
    """Nothing that registers is in it, it takes the place of the two functions, and it is small enough too."""
    command = render(dataclasses.replace(SCRIPT, token=None))
    whole = payload(command) + unpacked(render_gate(SCRIPT.gate, jit=True))
    assert TOKEN not in whole
    assert "config.sh" not in whole
    assert whole.count("waiting for its configuration") == whole.count("registered, listening") == 1
    assert "waiting for its configuration" not in payload(render(SCRIPT)) + unpacked(render_gate(SCRIPT.gate))
    assert docker_args_size(command) < COMMAND_LIMIT
    subprocess.run(["bash", "-n"], input=whole, text=True, check=True)


@pytest.mark.parametrize(
    ("written", "separators"),
    [
        pytest.param(lambda text: text, (",", ":"), id="compact"),
        pytest.param(lambda text: text, (", ", ": "), id="spaced"),
        pytest.param(lambda text: text.replace("+", "\\u002B").replace("/", "\\/"), (",", ":"), id="escaped"),
    ],
)
def test_a_configuration_unfolds_into_the_runners_files(
    tmp_path: Path, written: Callable[[str], str], separators: tuple[str, str]
) -> None:
    """Each for its owner alone; a name that leads elsewhere makes none; the pipe is gone."""
    files = {".runner": b"\xfb\xff\xfe" * 9, ".credentials": b"{}", ".credentials_rsaparams": bytes(range(256))}
    coded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    text = written(json.dumps({**coded, "../evil": "eA==", ".a/b": "eA=="}, separators=separators))
    for name in ("state", "runner"):
        (tmp_path / name).mkdir()
    with resources.as_file(resources.files("runner_provisioner.bootstrap") / "jit.sh") as functions:
        process = subprocess.Popen(
            [
                "bash",
                "-uc",
                "log() { :; }; report() { :; }; source $0; rp_state=$1/state rp_runner=$1/runner rp_drop=''; configure",
                str(functions),
                str(tmp_path),
            ]
        )
        limit = time.monotonic() + 10
        while not (tmp_path / "state" / "jit").exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        (tmp_path / "state" / "jit").write_text(base64.b64encode(text.encode()).decode() + "\n")
        assert process.wait(10) == 0
    found = {path.name: path for path in (tmp_path / "runner").iterdir()}
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}
    assert list((tmp_path / "state").iterdir()) == []


def test_the_login_key_follows_from_secret_and_nonce() -> None:
    """Another process of the same account finds it again; nobody else does, and no other pod has it."""
    one = login_key("account-key", "nonce")
    assert one.public == login_key("account-key", "nonce").public
    assert len({one.public, login_key("account-key", "other").public, login_key("other-key", "nonce").public}) == 3
    assert one.private not in repr(one)
