"""GitHub's JSON for the things the simulator keeps, in the shapes of the published schema."""

from __future__ import annotations

from datetime import UTC, datetime

from runner_provisioner.simulators.github.entities import READ_ONLY_LABELS, Account, Group, Repository, RunnerRecord
from runner_provisioner.simulators.github.runs import Attempt, Job, Run, commit_of
from runner_provisioner.simulators.github.tokens import App, Installation

Json = dict[str, object]
WORKFLOW_PATH = ".github/workflows/simulated.yml"

_REPOSITORY_LINKS = (
    "archive assignees blobs branches collaborators comments commits compare contents contributors deployments "
    "downloads events forks git_commits git_refs git_tags hooks issue_comment issue_events issues keys labels "
    "languages merges milestones notifications pulls releases stargazers statuses subscribers subscription tags "
    "teams trees"
)
_REPOSITORY_COUNTS = (
    "forks forks_count network_count open_issues open_issues_count size stargazers_count subscribers_count watchers "
    "watchers_count"
)
_USER_LINKS = "events followers following gists organizations received_events repos starred subscriptions"


def stamp(moment: datetime) -> str:
    """A time as GitHub writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _maybe(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)


class Shapes:
    """The shapes as seen from one address: `api` is the API's, `html` the web site's (no slash at the end)."""

    def __init__(self, api: str, html: str) -> None:
        self._api = api
        self._html = html

    def account(self, account: Account) -> Json:
        """simple-user."""
        own = f"{self._api}/users/{account.login}"
        links: Json = {f"{name}_url": f"{own}/{name}" for name in _USER_LINKS.split()}
        return links | {
            "login": account.login,
            "id": account.id,
            "node_id": f"A_{account.id}",
            "avatar_url": f"{self._html}/avatars/{account.id}",
            "gravatar_id": "",
            "url": own,
            "html_url": f"{self._html}/{account.login}",
            "type": "Organization" if account.organisation else "User",
            "site_admin": False,
        }

    def repository(self, repository: Repository) -> Json:
        """minimal-repository."""
        own = f"{self._api}/repos/{repository.full_name}"
        links: Json = {f"{name}_url": f"{own}/{name}" for name in _REPOSITORY_LINKS.split()}
        return links | {
            "id": repository.id,
            "node_id": f"R_{repository.id}",
            "name": repository.name,
            "full_name": repository.full_name,
            "owner": self.account(repository.owner),
            "private": repository.private,
            "html_url": f"{self._html}/{repository.full_name}",
            "description": None,
            "fork": False,
            "url": own,
        }

    def full_repository(self, repository: Repository) -> Json:
        """full-repository, which is also a repository."""
        web = f"{self._html}/{repository.full_name}"
        counts: Json = dict.fromkeys(_REPOSITORY_COUNTS.split(), 0)
        flags: Json = {
            f"has_{name}": False for name in ("discussions", "downloads", "issues", "pages", "projects", "wiki")
        }
        moment = stamp(repository.created_at)
        return (
            self.repository(repository)
            | counts
            | flags
            | {
                "archived": False,
                "disabled": False,
                "default_branch": "main",
                "visibility": "private" if repository.private else "public",
                "homepage": None,
                "language": None,
                "license": None,
                "mirror_url": None,
                "clone_url": f"{web}.git",
                "git_url": f"git:{web}.git",
                "ssh_url": f"git@github.test:{repository.full_name}.git",
                "svn_url": web,
                "created_at": moment,
                "pushed_at": moment,
                "updated_at": moment,
            }
        )

    def run(self, run: Run, attempt: Attempt) -> Json:
        """workflow-run, as of one attempt."""
        own = f"{self._api}/repos/{run.repository.full_name}/actions/runs/{run.id}"
        sha = commit_of(run)
        links: Json = {f"{name}_url": f"{own}/{name}" for name in ("artifacts", "cancel", "jobs", "logs", "rerun")}
        person = {"name": run.repository.owner.login, "email": "someone@github.test"}
        return links | {
            "id": run.id,
            "node_id": f"WFR_{run.id}",
            "name": run.workflow.name,
            "display_title": run.workflow.name,
            "path": WORKFLOW_PATH,
            "run_number": run.number,
            "run_attempt": attempt.number,
            "event": str(run.context.get("event_name", "workflow_dispatch")),
            "status": attempt.status,
            "conclusion": attempt.conclusion,
            "workflow_id": run.repository.id + 1,
            "workflow_url": f"{self._api}/repos/{run.repository.full_name}/actions/workflows/{run.repository.id + 1}",
            "check_suite_url": f"{self._api}/repos/{run.repository.full_name}/check-suites/{run.id}",
            "url": own,
            "html_url": f"{self._html}/{run.repository.full_name}/actions/runs/{run.id}",
            "pull_requests": [],
            "created_at": stamp(run.created_at),
            "updated_at": stamp(attempt.updated_at),
            "run_started_at": stamp(attempt.created_at),
            "head_branch": "main",
            "head_sha": sha,
            "head_commit": {
                "id": sha,
                "tree_id": sha,
                "message": "simulated",
                "timestamp": stamp(run.created_at),
                "author": person,
                "committer": person,
            },
            "repository": self.repository(run.repository),
            "head_repository": self.repository(run.repository),
        }

    def job(self, job: Job) -> Json:
        """The schema's job."""
        repository = job.run.repository.full_name
        progress = job.attempt.engine.job(job.key)
        runner = job.runner
        return {
            "id": job.id,
            "node_id": f"CR_{job.id}",
            "run_id": job.run.id,
            "run_url": f"{self._api}/repos/{repository}/actions/runs/{job.run.id}",
            "run_attempt": job.attempt.number,
            "workflow_name": job.run.workflow.name,
            "head_branch": "main",
            "head_sha": commit_of(job.run),
            "url": f"{self._api}/repos/{repository}/actions/jobs/{job.id}",
            "html_url": f"{self._html}/{repository}/actions/runs/{job.run.id}/job/{job.id}",
            "check_run_url": f"{self._api}/repos/{repository}/check-runs/{job.id}",
            "name": progress.name,
            "status": job.status,
            "conclusion": job.conclusion,
            "labels": list(progress.labels),
            "created_at": stamp(job.created_at),
            "started_at": stamp(job.started_at or job.created_at),
            "completed_at": _maybe(job.completed_at),
            "runner_id": None if runner is None else runner.id,
            "runner_name": None if runner is None else runner.name,
            "runner_group_id": None if runner is None else runner.group_id,
            "runner_group_name": None if runner is None else "Default",
            "steps": [
                {"name": step.name, "number": step.number, "status": step.status, "conclusion": step.conclusion}
                for step in progress.steps
            ],
        }

    @staticmethod
    def labels(runner: RunnerRecord) -> list[Json]:
        """A runner's labels."""
        return [
            {"id": number, "name": name, "type": "read-only" if name.lower() in READ_ONLY_LABELS else "custom"}
            for number, name in enumerate(runner.labels, 1)
        ]

    def runner(self, runner: RunnerRecord) -> Json:
        """The schema's runner."""
        return {
            "id": runner.id,
            "runner_group_id": runner.group_id,
            "name": runner.name,
            "os": "unknown" if runner.version is None else "linux",
            "status": "online" if runner.online else "offline",
            "busy": runner.busy,
            "ephemeral": runner.ephemeral,
            "version": runner.version,
            "labels": self.labels(runner),
        }

    def group(self, organisation: str, group: Group) -> Json:
        """runner-groups-org."""
        return {
            "id": group.id,
            "name": group.name,
            "visibility": group.visibility,
            "default": group.default,
            "inherited": False,
            "allows_public_repositories": group.allows_public,
            "restricted_to_workflows": False,
            "selected_workflows": [],
            "runners_url": f"{self._api}/orgs/{organisation}/actions/runner-groups/{group.id}/runners",
        }

    def app(self, app: App) -> Json:
        """The schema's integration."""
        owner = Account(id=1, login="app-owner")
        return {
            "id": app.id,
            "slug": app.slug,
            "client_id": app.client_id,
            "node_id": f"I_{app.id}",
            "owner": self.account(owner),
            "name": app.slug,
            "description": None,
            "external_url": self._html,
            "html_url": f"{self._html}/apps/{app.slug}",
            "created_at": stamp(app.created_at),
            "updated_at": stamp(app.created_at),
            "permissions": dict(app.permissions),
            "events": ["workflow_job"],
        }

    def installation(self, installation: Installation) -> Json:
        """The schema's installation."""
        own = f"{self._api}/app/installations/{installation.id}"
        account = installation.account
        return {
            "id": installation.id,
            "account": self.account(account),
            "access_tokens_url": f"{own}/access_tokens",
            "repositories_url": f"{self._api}/installation/repositories",
            "html_url": f"{self._html}/settings/installations/{installation.id}",
            "app_id": installation.app.id,
            "app_slug": installation.app.slug,
            "client_id": installation.app.client_id,
            "target_id": account.id,
            "target_type": "Organization" if account.organisation else "User",
            "permissions": dict(installation.permissions),
            "events": ["workflow_job"],
            "repository_selection": "all" if installation.repositories is None else "selected",
            "single_file_name": None,
            "created_at": stamp(installation.created_at),
            "updated_at": stamp(installation.created_at),
            "suspended_at": _maybe(installation.suspended_at),
            "suspended_by": None,
        }
