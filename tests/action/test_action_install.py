"""How the program gets onto the machine: once in a job, from the lock, whatever lies in the working directory."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from support.action_stage import INSTALL, PROGRAM, ROOT, ActionStage, SetUpAction, Use, queue

from runner_provisioner.simulators.workflow.values import Value

TOOLS = ("bash", "sh", "sed", "head", "tr", "cksum", "rm", "mkdir", "mv", "chmod", "cat")
TRAPS = ("runner_provisioner/__init__.py", "httpx.py", "click.py", "sitecustomize.py")
SHOWN = 'print("TAKEN OVER")\nraise SystemExit("TAKEN OVER")\n'


def trapped(use: Use) -> Use:
    """The working directory is a stranger's: it holds modules with the names of ours."""
    for name in TRAPS:
        path = use.job.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHOWN)
    (use.job.workspace / "pyproject.toml").write_text('[tool.uv]\nindex-url = "https://nowhere.invalid/"\n')
    (use.job.workspace / "uv.toml").write_text('index-url = "https://nowhere.invalid/"\n')
    use.job.environ = {**use.job.environ, "PYTHONPATH": str(use.job.workspace)}
    return use


def stop_twice(stage: ActionStage) -> Use:
    """A job that uses the action two times; without a pod there is little to do."""
    use = stage.use(queue(stage.stage), "stop", ready=False)
    again: dict[str, Value] = {**use.steps[0], "id": "again"}
    use.steps.append(again)
    return use


def copy_of_the_action(folder: Path) -> Path:
    """What GitHub downloads of it, as far as a step needs it."""
    shutil.copytree(ROOT / "action", folder / "action")
    for name in ("action.yml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "runner_provisioner").symlink_to(ROOT / "runner_provisioner")
    return folder


def check(use: Use) -> None:
    """It was installed once, ran twice, and imported nothing of the stranger's."""
    use.play().well()
    assert use.job.log.text.count("##[group]Install runner-provisioner") == 1
    assert use.job.log.open_groups == 0
    assert "TAKEN OVER" not in use.job.log.text
    assert use.job.log.text.count("found nothing named") == 2


def test_it_is_installed_once_in_a_job(set_up_action: SetUpAction) -> None:
    """For real, from the package index, into an empty home; a second use finds it."""
    check(trapped(stop_twice(set_up_action(inert=True))))


@pytest.mark.full
@pytest.mark.parametrize("uv_can_be_had", [True, False], ids=["fetched-uv", "pip-alone"])
def test_without_uv_on_the_machine(set_up_action: SetUpAction, tmp_path: Path, uv_can_be_had: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """What pip fetches is uv; where even that fails pip does the work."""
    stage = set_up_action(inert=True)
    stage.machine["PATH"] = tools(tmp_path / "bin", with_python=True)
    use = trapped(stop_twice(stage))
    use.job.ours = copy_of_the_action(tmp_path)
    if not uv_can_be_had:
        (tmp_path / "action" / "requirements-uv.lock").write_text("uv==0.13.8 --hash=sha256:" + "0" * 64 + "\n")
    check(use)


def test_without_python_and_uv_it_says_what_to_do(set_up_action: SetUpAction, tmp_path: Path) -> None:
    """One error of ours, nothing run."""
    stage = set_up_action(inert=True)
    stage.machine["PATH"] = tools(tmp_path / "bin", with_python=False)
    use = stop_twice(stage).play()
    assert use.step(INSTALL).outcome == "failure"
    assert use.step(PROGRAM).outcome == "skipped"
    assert "put actions/setup-python before this step" in use.job.log.text
    assert [one.title for one in use.job.log.annotations].count("runner-provisioner") == 1


def test_a_runtime_that_was_not_finished_is_made_anew(set_up_action: SetUpAction, tmp_path: Path) -> None:
    """A folder without its last file is one that somebody was cancelled in."""
    stage = set_up_action(inert=True)
    stage.machine["PATH"] = tools(tmp_path / "bin", with_python=False)
    use = stage.use(queue(stage.stage), "stop")
    program = next(use.job.temp.glob("runner-provisioner/*/bin/runner-provisioner"))
    program.unlink()
    use.play()
    assert "##[group]Install runner-provisioner" in use.job.log.text


def test_the_lock_of_uv_is_that_of_the_project() -> None:
    """One version and its hashes, as requirements-dev.lock has them."""
    mine = (ROOT / "action" / "requirements-uv.lock").read_text().split()
    theirs = (ROOT / "requirements-dev.lock").read_text()
    begin = theirs.index("\nuv==") + 1
    block = theirs[begin : theirs.index("    # via", begin)].split()
    assert mine == block


def tools(folder: Path, *, with_python: bool) -> str:
    """A PATH with a shell and next to nothing else."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    if with_python:
        # Not the one on PATH, which may be a script of a version manager.
        (folder / "python3").symlink_to(Path(sys.executable).resolve())
    return str(folder)
