"""Jobs that lost their machine: how that is told, written down, and found to explain why a run failed.

A record is a hint. It is sealed with a key that only those have who hold the provider's credential, so that no job can
make one up; and even a true one counts only for a job that GitHub says has failed, and unless the provider says that
the pod is alive.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from runner_provisioner.domain.leases import Observation, Unknown
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodState
from runner_provisioner.domain.runners import Job, Runner

VERSION = 1
ARTIFACT = "runner-provisioner-interruption-"
LABEL = re.compile(r"rp-[a-z]{26}")
VANISHED = "vanished"
RUNTIME_GONE = "runtime gone"
END_MARGIN = timedelta(minutes=2)  # before its own end, within which an end is its own
LAST_WORD = timedelta(minutes=1)  # after the loss of a pod, within which its runner has told how the job ended
_PURPOSE = b"runner-provisioner interruption record\0"
_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_REASON = re.compile(r"[a-z][a-z -]{0,63}")
_WELL = frozenset({"success", "skipped", "neutral"})
_BROKEN = frozenset({"failure", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A pod that ended though nobody asked for it, before its job was done. `name` is the pod's and its runner's."""

    name: str
    label: str
    provider: str | None
    pod: str | None
    machine: str | None
    reason: str
    at: datetime


def seal_key(credential: str) -> bytes:
    """The key of the seal; nothing of the credential can be told from it."""
    return hashlib.sha256(_PURPOSE + credential.encode()).digest()


def artifact_name(key: RunKey) -> str:
    """What the record is called where the action leaves it."""
    return f"{ARTIFACT}{key.key}-{key.attempt}"


def encode(found: Interruption, key: bytes) -> bytes:
    """The record as JSON, sealed."""
    plain = _plain(found)
    return json.dumps({**plain, "seal": _seal(plain, key)}, indent=1).encode()


def decode(data: bytes, key: bytes) -> Interruption | None:
    """Read a record; None when it is none of ours, or when any value of it is not as it must be."""
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict):
            return None
        seal = str(raw.pop("seal"))
        if not hmac.compare_digest(seal.encode(), _seal(raw, key).encode()):
            return None
        return _read(raw)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _plain(found: Interruption) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": found.name,
        "label": found.label,
        "provider": found.provider,
        "pod": found.pod,
        "machine": found.machine,
        "reason": found.reason,
        "at": found.at.isoformat(),
    }


def _seal(plain: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _read(raw: Mapping[str, Any]) -> Interruption:
    if raw["version"] != VERSION or RunKey.parse(str(raw["name"])) is None:
        raise ValueError
    at = datetime.fromisoformat(str(raw["at"]))
    if at.tzinfo is None:
        raise ValueError
    return Interruption(
        name=str(raw["name"]),
        label=_formed(LABEL, raw["label"]),
        provider=_word(raw["provider"]),
        pod=_word(raw["pod"]),
        machine=_word(raw["machine"]),
        reason=_formed(_REASON, raw["reason"]),
        at=at,
    )


def _word(value: object) -> str | None:
    return None if value is None else _formed(_WORD, value)


def _formed(form: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError
    return value


# --- what a look says ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Pods that are no more, as the provider tells it; `pod` is None where it has vanished without a trace."""

    reason: str
    pod: Pod | None = None


def lost(seen: Observation) -> Loss | None:
    """What a look says of a pod that nobody has asked to end: how it was lost; None when it lives or cannot be seen."""
    if isinstance(seen.pods, Unknown) or any(pod.alive for pod in seen.pods):
        return None
    taken = next((pod for pod in seen.pods if pod.state in {PodState.INTERRUPTED, PodState.STOPPED}), None)
    if taken is not None:
        return Loss(reason=taken.state.value, pod=taken)
    dead = next(iter(seen.pods), None)
    return Loss(reason=dead.state.value, pod=dead) if dead is not None else Loss(reason=VANISHED)


def interrupted(
    name: str, loss: Loss, seen: Observation, jobs: Sequence[Job] | None, at: datetime, *, followed: bool = False
) -> Interruption | None:
    """Whether the loss of a pod broke its job; None when it did not, or when that is anybody's guess.

    `at` is when it was noticed, which stands where the provider does not say when it was.
    `jobs` are those of the attempt, None when they could not be read. A pod of ours never just stops: it removes
    itself. So one that is listed as ended was taken. One that is gone may have ended itself: after its job, which also
    removes the registration of its runner, or because no job came, unless it was `followed` until then. One that its
    user has stopped, or that came to its own end, is no loss that another machine would repair; nor is a job lost that
    somebody has cancelled.
    """
    runner = seen.runner if isinstance(seen.runner, Runner) else None
    label = _label(loss, runner)
    job = job_of(name, label, jobs or ())
    label = label or (only_label(job.labels) if job is not None else None)
    if label is None or (job is not None and job.conclusion in _WELL) or intended(loss, runner, job, at):
        return None
    if job is not None and _was_cancelled(job) and seen.runner is not None and not followed:
        # A runner that is shut down may report its job as cancelled too (paradedb#5305), but then it is registered no
        # more: this one said nothing, so that somebody else has ended its job.
        return None
    if loss.pod is None and not _vanished(runner, name, job, followed=followed):
        return None
    if loss.pod is not None and loss.pod.deleting and seen.runner is None and _has_ended_on(name, job):
        return None  # `stop` or `watch`, whichever came first, is deleting it
    pod = loss.pod
    return Interruption(
        name=name,
        label=label,
        provider=pod.provider if pod else None,
        pod=pod.id if pod else None,
        machine=pod.machine if pod else None,
        reason=loss.reason,
        at=min(pod.stopped_at or at, at) if pod else at,
    )


def _has_ended_on(name: str, job: Job | None) -> bool:
    return job is not None and job.runner_name == name and job.conclusion is not None


def intended(loss: Loss, runner: Runner | None, job: Job | None, at: datetime) -> bool:
    """Whether its user has stopped the pod, or it came to its own end (lifetime, cost) by `at`, or as its job ended.

    What the provider itself says it took is neither.
    """
    pod = loss.pod
    if pod is not None and pod.state in {PodState.STOPPED, PodState.INTERRUPTED}:
        return pod.state is PodState.STOPPED
    tags = pod.tags if pod is not None else None
    ends = (tags.expires_at if tags is not None else None) or (runner.pod_ends_at if runner is not None else None)
    over = job.completed_at if job is not None else None
    return ends is not None and min(over or at, at) >= ends - END_MARGIN


def _vanished(runner: Runner | None, name: str, job: Job | None, *, followed: bool) -> bool:
    if runner is None or runner.online or job is None:
        return False
    return job.runner_name == name or followed


def _label(loss: Loss, runner: Runner | None) -> str | None:
    tags = loss.pod.tags if loss.pod is not None else None
    candidates = ((tags.label or "",) if tags is not None else ()) + (runner.labels if runner is not None else ())
    return only_label(candidates)


def only_label(labels: Sequence[str]) -> str | None:
    """The one label that `start` made; None when there is none or more than one."""
    found = {label for label in labels if LABEL.fullmatch(label)}
    return found.pop() if len(found) == 1 else None


def job_of(name: str, label: str | None, jobs: Sequence[Job]) -> Job | None:
    """The job that the runner of this name took, else one that waited for its label."""
    taken = next((job for job in jobs if job.runner_name == name), None)
    waiting = (job for job in jobs if label is not None and label in job.labels and job.runner_name is None)
    return taken or next(waiting, None)


# --- whether they explain why a run failed ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A job that lost its machine: whose it was, the label that it asks for, how often that has happened by now."""

    key: RunKey
    label: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The jobs that an interruption explains, and one line for each that it does not."""

    explained: tuple[Explained, ...] = ()
    unexplained: tuple[str, ...] = ()


def explain(
    jobs: Sequence[Job],
    records: Sequence[Interruption],
    pods: Sequence[Pod],
    *,
    owner8: str,
    run_id: int,
    attempt: int,
) -> Findings:
    """Explain each job of an attempt that did not end well.

    Names, labels and failures are GitHub's; a record only says which of them was an interruption, and a pod of that
    name that is alive contradicts it. A failed `watch` needs no explanation of its own.
    """
    explained: dict[RunKey, Explained] = {}
    unexplained: list[str] = []
    for job in jobs:
        if job.conclusion in _WELL or is_watch(job.name):
            continue
        label = only_label(job.labels)
        record = _record_of(job, label, records)
        key = _key_of(job, record)
        why = _objection(job, label, key, owner8=owner8, run_id=run_id, attempt=attempt) or _doubt(
            job, key, record, pods
        )
        if why is not None or key is None or label is None:
            unexplained.append(f"job '{_shown(job.name)}' {why}")
            continue
        explained[key] = Explained(key=key, label=label, times=_times(key, records))
    return Findings(explained=tuple(explained.values()), unexplained=tuple(unexplained))


def is_watch(name: str) -> bool:
    """Whether a job is called `watch`: by itself, in a called workflow (`train / Watch`), or as a leg (`watch (a)`)."""
    last = name.rpartition(" / ")[2]
    return re.fullmatch(r"watch(?: \([^()]*\))?", last.strip().lower()) is not None


def _record_of(job: Job, label: str | None, records: Sequence[Interruption]) -> Interruption | None:
    fitting = (one for one in records if one.label == label and job.runner_name in (None, one.name))
    return max(fitting, key=lambda one: (_attempt(one), one.at), default=None)


def _attempt(record: Interruption) -> int:
    parsed = RunKey.parse(record.name)
    return parsed.attempt if parsed else 0


def _key_of(job: Job, record: Interruption | None) -> RunKey | None:
    name = job.runner_name or (record.name if record is not None else "")
    return RunKey.parse(name)


def _objection(
    job: Job, label: str | None, key: RunKey | None, *, owner8: str, run_id: int, attempt: int
) -> str | None:
    if job.status != "completed":
        return "has not ended"
    if label is None:
        return "failed, and did not ask for a machine of ours"
    if job.conclusion not in _BROKEN:
        return f"ended by itself ({_shown(job.conclusion or 'no conclusion')})"
    if key is None:
        return "failed, and no record says that it lost its machine"
    if (key.owner8, key.run_id, key.attempt) != (owner8, run_id, attempt):
        return "did not run on a machine that was rented for this attempt"
    return None


def _doubt(job: Job, key: RunKey | None, record: Interruption | None, pods: Sequence[Pod]) -> str | None:
    named = [pod for pod in pods if key is not None and pod.name == key.name]
    if any(pod.alive for pod in named):
        return "failed, and its machine is still there"
    if _was_cancelled(job) and (record is None or (job.completed_at or record.at) > record.at + LAST_WORD):
        return "was cancelled while it ran"
    taken = any(pod.state is PodState.INTERRUPTED and not pod.deleting for pod in named)
    return None if record is not None or taken else "failed by itself: no record says that it lost its machine"


def _was_cancelled(job: Job) -> bool:
    """Whether it was cancelled after a runner had taken it, by somebody or by a runner that was shut down."""
    return job.conclusion == "cancelled" and job.runner_name is not None


def _times(key: RunKey, records: Sequence[Interruption]) -> int:
    """How many attempts of the key were interrupted, this one among them."""
    parsed = (RunKey.parse(one.name) for one in records)
    same = {one.attempt for one in parsed if one and (one.owner8, one.run, one.key) == (key.owner8, key.run, key.key)}
    return len(same | {key.attempt})


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:100]
