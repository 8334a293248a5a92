"""The project's own workflows, its action and the examples, as auditors and schemas see them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner_provisioner.github.runs import CLEANING_STEP
from runner_provisioner.lint.checking import check_workflows
from runner_provisioner.lint.checks.machines import WHOLE_JOB_MINUTES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import pin_action  # type: ignore[import-not-found] # noqa: E402 - a script, not a package

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.yml"))
# `runner-provisioner demo` plays it without the action.
DEMO = "gpu-job.yml"
SHOWN = [one for one in EXAMPLES if one.name != DEMO]
EVERY = [*WORKFLOWS, *EXAMPLES]
IDS = [str(one.relative_to(ROOT)) for one in EVERY]
SLUG = (ROOT / ".github" / "action-slug").read_text().strip()
BIN = Path(sys.executable).parent

# Not of `start`, or decided by the reusable workflow itself.
_ELSEWHERE = {
    "mode",
    "repository",
    "run-id",
    "runpod-api-key",
    "prime-api-key",
    "prime-team-id",
    "celium-api-key",
    "github-app-private-key",
    "github-token",
    "github-app-id",
    "all",
    "price-per-hour",
    "started-at",
    "dry-run",
    "cancel-stuck",
    "attempt",
    "unique-label",
    "max-attempts",
    "workflow-token",
}


def read(path: Path) -> Any:  # noqa: ANN401 - YAML
    """A file's content; BaseLoader, so that `on` stays a word."""
    return yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - it makes only texts


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow."""
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    return [step for job in jobs(path).values() for step in job.get("steps", [])]


def tool(name: str) -> str:
    """A development tool beside this Python."""
    found = BIN / name
    if not found.exists() and shutil.which(name) is None:
        pytest.fail(f"{name} is a development dependency: make setup")
    return str(found)


def test_the_auditor_finds_nothing() -> None:
    """Zizmor, over everything that GitHub would read."""
    command = [tool("zizmor"), "--offline", "--no-progress", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_auditor_finds_nothing_in_the_examples() -> None:
    """As they would be in somebody's repository."""
    settings = str(ROOT / ".github" / "zizmor.yml")
    files = [str(one) for one in EXAMPLES]
    command = [tool("zizmor"), "--offline", "--no-progress", "--config", settings, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_auditor_has_few_exceptions() -> None:
    """Our own action by its moving tag and, where it is tried, by the checkout; the trigger that a re-run needs."""
    settings = read(ROOT / ".github/zizmor.yml")
    own = SLUG.partition("@")[0]
    policies = {"*": "hash-pin", own: "ref-pin", f"{own}/*": "ref-pin"}
    unpinned = {"config": {"policies": policies}}
    assert settings == {"rules": {"self-repository": {"ignore": ["action.yml"]}, "unpinned-uses": unpinned}}
    ignored = [line.strip() for one in (*EVERY, ROOT / "action.yml") for line in one.read_text("utf-8").splitlines()]
    assert [line for line in ignored if "zizmor:" in line] == ["workflow_run: # zizmor: ignore[dangerous-triggers]"]


def test_the_schemas_are_kept() -> None:
    """The vendored schemas of check-jsonschema, of workflows and of actions."""
    for schema, files in (("github-workflows", EVERY), ("github-actions", [ROOT / "action.yml"])):
        names = [str(one) for one in files]
        command = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_check_finds_nothing() -> None:
    """Not even a warning, in our own workflows and in the examples together with the clean-up among them."""
    for files in (WORKFLOWS, EXAMPLES):
        texts = {str(one.relative_to(ROOT)): one.read_text("utf-8") for one in files}
        assert [str(one) for one in check_workflows(texts)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=[one.name for one in WORKFLOWS])
def test_workflows_begin_without_permissions(path: Path) -> None:
    """Each job says what it needs, and how long it may take."""
    assert read(path)["permissions"] == {}
    for job in jobs(path).values():
        assert "permissions" in job
        assert "uses" in job or "timeout-minutes" in job


@pytest.mark.parametrize("path", EVERY, ids=IDS)
def test_every_use_is_pinned(path: Path) -> None:
    """To a commit with its version beside it; our own action to its one name."""
    for line in path.read_text("utf-8").splitlines():
        found = re.match(r"^\s*(?:- )?uses: (\S+)(?: # (v[\d.]+))?$", line)
        if found is None:
            assert not re.match(r"^\s*(?:- )?uses:", line), line
            continue
        name, _, ref = found[1].partition("@")
        if "/runner_provisioner" in name:
            own, tag = SLUG.split("@")
            assert (name.split("/.github/")[0], ref) == (own, tag)
        elif name != "./":
            assert re.fullmatch(r"[0-9a-f]{40}", ref), line
            assert found[2], line


@pytest.mark.parametrize("path", EVERY, ids=IDS)
def test_a_reference_to_the_repository_itself_has_a_path(path: Path) -> None:
    """The runner refuses a bare one (actions/runner#4457)."""
    assert not re.search(r"uses: \$/+\s", path.read_text("utf-8"))


def test_one_commit_for_each_version() -> None:
    """The same action is the same commit everywhere."""
    text = "\n".join(one.read_text("utf-8") for one in EVERY)
    pins = set(re.findall(r"uses: ([\w/-]+)@([0-9a-f]{40}) # (v[\d.]+)", text))
    current = {one for one in pins if one[2] != "v4.2.2"}
    assert len({name for name, _, _ in current}) == len(current)


@pytest.mark.parametrize("path", EVERY, ids=IDS)
def test_no_expression_is_part_of_a_script(path: Path) -> None:
    """What an expression gives arrives by the environment."""
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


def test_the_name_of_the_action_is_the_same_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """The script that writes it would write nothing."""
    assert pin_action.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_name_of_the_action_is_written_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the action, of its workflows, of the auditor's exception; and nothing else changes."""
    for folder in (".github", "examples", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    assert pin_action.main(["acme/runner_provisioner@v2"], tmp_path) == 0
    assert "written: .github/workflows/gpu-job.yml" in capsys.readouterr().out
    gpu_job = (tmp_path / ".github/workflows/gpu-job.yml").read_text()
    assert gpu_job.count("uses: acme/runner_provisioner@v2\n") == 3
    assert SLUG.split("@")[0] not in gpu_job
    assert "        acme/runner_provisioner/*: ref-pin" in (tmp_path / ".github/zizmor.yml").read_text()
    assert (
        "uses: acme/runner_provisioner/.github/workflows/cleanup.yml@v2"
        in (tmp_path / "examples/scheduled-cleanup.yml").read_text()
    )
    assert pin_action.main(["--check"], tmp_path) == 0
    (tmp_path / ".github/action-slug").write_text(f"{SLUG}\n")
    assert pin_action.main(["--check"], tmp_path) == 1
    assert pin_action.main([], tmp_path) == 0
    assert (tmp_path / ".github/workflows/gpu-job.yml").read_text() == (
        ROOT / ".github/workflows/gpu-job.yml"
    ).read_text()


def test_a_name_alone_gets_the_tag_of_the_version(tmp_path: Path) -> None:
    """So that a maintainer writes it once, and again for a new major version."""
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github/action-slug").write_text(SLUG)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "12.3.4"\n')
    assert pin_action.main(["acme/runner-provisioner"], tmp_path) == 0
    assert (tmp_path / ".github/action-slug").read_text() == "acme/runner-provisioner@v12\n"
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(SystemExit, match="no version"):
        pin_action.main(["acme/runner-provisioner"], tmp_path)


def step_named(job: str, name: str) -> str:
    """The script of a step of the release."""
    (found,) = (
        one["run"] for one in jobs(ROOT / ".github/workflows/release.yml")[job]["steps"] if one.get("name") == name
    )
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("repository", "tag", "code"),
    [
        pytest.param(SLUG.partition("@")[0], f"{SLUG.partition('@')[2]}.9.1", 0, id="its-own"),
        pytest.param("acme/runner_provisioner", f"{SLUG.partition('@')[2]}.9.1", 1, id="another-repository"),
        pytest.param(SLUG.partition("@")[0], "v99.0.0", 1, id="another-major-version"),
    ],
)
def test_a_release_of_another_name_is_refused(repository: str, tag: str, code: int) -> None:
    """Before anything is built, with the command that puts it right."""
    script = step_named("build", "The workflows call the action by this repository's name")
    environ = {"PATH": f"{BIN}:/usr/bin:/bin", "GITHUB_REPOSITORY": repository, "GITHUB_REF_NAME": tag}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert (f"pin_action.py {repository}@{tag.partition('.')[0]}'" in done.stderr) is bool(code)


def test_a_release_writes_no_file_and_pushes_no_commit() -> None:
    """A workflow's token may not bring workflow files that are new (it cannot have the permission `workflows`)."""
    text = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    scripts = "\n".join(one.get("run", "") for one in steps(ROOT / ".github/workflows/release.yml"))
    assert not re.search(r"git (?:commit|add|tag)\b", scripts)
    assert "workflows: write" not in text


LISTED = "api --paginate repos/o/r/git/matching-refs/tags/v2. --jq .[].ref"


def move_tag(
    folder: Path, tags: tuple[str, ...] = (), *, known: bool = True, refused: bool = False, fails: bool = False
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The step as v2.3.4 runs it, in a repository with these tags; what GitHub was asked."""
    listed = "".join(f"refs/tags/{tag}\\n" for tag in (*tags, "v2.3.4"))
    gh = folder / "gh"
    gh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/calls\n'
        f"case \"$*\" in *matching-refs*) printf '{listed}'; exit {int(fails)} ;; "
        f"*--method*) exit {int(refused)} ;; *) exit {int(not known)} ;; esac\n"
    )
    gh.chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "GITHUB_REPOSITORY": "o/r", "GITHUB_REF_NAME": "v2.3.4"}
    command = ["bash", "-e", "-c", step_named("major-tag", "Move the tag")]
    done = subprocess.run(
        command, env={**environ, "GITHUB_SHA": "0123abcd"}, capture_output=True, text=True, check=False
    )
    return done, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("tags", "stays"),
    [
        pytest.param((), False, id="the-first"),
        pytest.param(("v2.3.3", "v2.2.10", "v2", "v2.4.0-rc1", "v2.4"), False, id="the-newest"),
        pytest.param(("v2.4.0",), True, id="of-an-older-line"),
        pytest.param(("v2.3.10",), True, id="by-number-and-not-by-letter"),
    ],
)
def test_the_tag_of_the_major_version_never_goes_back(tmp_path: Path, tags: tuple[str, ...], *, stays: bool) -> None:
    """A patch of an older line, and an older release that is run again, leave it where it is."""
    done, calls = move_tag(tmp_path, tags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("v2 stays where it is" in done.stdout) is stays
    assert any("--method" in call for call in calls) is not stays


def test_without_the_list_of_tags_nothing_is_moved(tmp_path: Path) -> None:
    """The job fails, and can be run again."""
    done, calls = move_tag(tmp_path, fails=True)
    assert done.returncode == 1
    assert calls == [LISTED]


@pytest.mark.parametrize(
    ("known", "refused", "asked"),
    [
        pytest.param(True, False, "--method PATCH repos/o/r/git/refs/tags/v2 -F force=true", id="moved"),
        pytest.param(False, False, "--method POST repos/o/r/git/refs -f ref=refs/tags/v2", id="made"),
        pytest.param(True, True, "--method PATCH repos/o/r/git/refs/tags/v2 -F force=true", id="refused"),
    ],
)
def test_the_tag_of_the_major_version_goes_to_the_released_commit(
    tmp_path: Path, *, known: bool, refused: bool, asked: str
) -> None:
    """By one call; where GitHub refuses it, the job fails with the line to run by hand."""
    done, calls = move_tag(tmp_path, known=known, refused=refused)
    assert calls == [
        LISTED,
        "api --silent repos/o/r/git/ref/tags/v2",
        f"api --silent {asked} -f sha=0123abcd",
    ]
    assert done.returncode == int(refused)
    assert ("git push --force origin 0123abcd:refs/tags/v2" in done.stdout) is refused


@pytest.mark.parametrize("given", ["acme", "acme/x", "acme/x@v1", "acme/x@main", "a/b@v1 a/c@v1"])
def test_a_name_that_is_none_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written."""
    assert pin_action.main(given.split()) == 2
    assert "OWNER/runner_provisioner@vMAJOR" in capsys.readouterr().err


def test_the_reusable_workflow_hands_every_input_on() -> None:
    """It has what `start` has, with the same defaults and words."""
    action = read(ROOT / "action.yml")["inputs"]
    path = ROOT / ".github/workflows/gpu-job.yml"
    inputs = read(path)["on"]["workflow_call"]["inputs"]
    rent, follow, give_back = (step for step in steps(path) if step.get("uses") == SLUG)
    for name in action.keys() - _ELSEWHERE:
        assert inputs[name]["default"] == action[name]["default"], name
        assert inputs[name]["description"] == action[name]["description"], name
        assert rent["with"][name] == f"${{{{ inputs.{name} }}}}"
    for name in ("organization", "owner", "key"):
        assert give_back["with"][name] == follow["with"][name] == rent["with"][name]
    assert rent["with"].keys() <= action.keys()
    assert give_back["with"].keys() <= action.keys()


def test_the_workflow_check_knows_how_long_the_reusable_workflow_may_take() -> None:
    """Where a caller says nothing."""
    inputs = read(ROOT / ".github/workflows/gpu-job.yml")["on"]["workflow_call"]["inputs"]
    assert inputs["timeout-minutes"]["default"] == WHOLE_JOB_MINUTES


def test_the_re_run_rents_as_the_start_did() -> None:
    """It has what the reusable workflow has, with the same defaults and words, and refuses a foreign head first."""
    path = ROOT / ".github/workflows/rerun.yml"
    theirs = read(ROOT / ".github/workflows/gpu-job.yml")["on"]["workflow_call"]["inputs"]
    own = read(path)["on"]["workflow_call"]["inputs"]
    (step,) = steps(path)
    for name in read(ROOT / "action.yml")["inputs"].keys() - _ELSEWHERE - {"key", "allow-untrusted"}:
        assert own[name] == theirs[name], name
        assert step["with"][name] == f"${{{{ inputs.{name} }}}}"
    (job,) = jobs(path).values()
    assert "github.event.workflow_run.head_repository.full_name == github.repository" in job["if"]
    assert job["permissions"] == {"actions": "write"}
    assert "checkout" not in path.read_text("utf-8")
    assert read(ROOT / "examples/rerun-interrupted.yml")["on"]["workflow_run"]["types"] == ["completed"]


def test_the_machine_gets_neither_secrets_nor_an_environment() -> None:
    """Approval comes before renting, and the stop has an environment of its own."""
    start, gpu, stop = (jobs(ROOT / ".github/workflows/gpu-job.yml")[name] for name in ("start", "gpu", "stop"))
    assert start["environment"] == "${{ inputs.environment }}"
    assert stop["environment"] == "${{ inputs.stop-environment }}"
    assert stop["if"] == "always()"
    assert "environment" not in gpu
    assert "secrets" not in str(gpu)
    assert gpu["permissions"] == {"contents": "read"}
    assert start["permissions"] == stop["permissions"] == {}
    assert gpu["timeout-minutes"] == "${{ inputs.timeout-minutes }}"


def test_a_clean_up_that_was_skipped_is_known_by_its_step() -> None:
    """A start asks whether that one has run."""
    names = [one["name"] for one in jobs(ROOT / ".github/workflows/cleanup.yml")["cleanup"]["steps"] if "if" in one]
    assert names == [CLEANING_STEP]


def test_a_clean_up_runs_alone() -> None:
    """A second one waits; neither is cancelled."""
    job = jobs(ROOT / ".github/workflows/cleanup.yml")["cleanup"]
    assert job["concurrency"] == {"group": "runner-provisioner-cleanup", "cancel-in-progress": "false"}


@pytest.mark.parametrize(
    "path",
    [
        ROOT / ".github/workflows/scheduled-cleanup.yml",
        ROOT / "examples/scheduled-cleanup.yml",
        ROOT / "examples/fork-safe-cleanup.yml",
    ],
)
def test_the_clean_up_is_scheduled(path: Path) -> None:
    """And can be started by hand."""
    assert read(path)["on"].keys() == {"schedule", "workflow_dispatch"}
    (job,) = jobs(path).values()
    assert job["uses"].endswith(f"/.github/workflows/cleanup.yml@{SLUG.partition('@')[2]}")
    assert job["secrets"] != "inherit"
