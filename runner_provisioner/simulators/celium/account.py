"""The simulated account: credentials with scopes and budgets, templates, SSH keys, volumes, Idempotency-Keys."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.celium.texts import IN_PROGRESS, UNKNOWN, Refused, missing
from runner_provisioner.simulators.market.rest import Answer

Row = dict[str, Any]
SCOPES = frozenset({"read", "rent", "manage", "billing"})
USER = "5e5e0c9a-7c52-4a44-9b7e-0d9d1f0f9a01"
DEFAULT_IMAGE = "daturaai/pytorch"


@dataclass(kw_only=True)
class Key:
    """A credential; `budget` in USD for all pods that it rented, None = no limit."""

    value: str = field(repr=False)
    id: str
    name: str
    scopes: frozenset[str] = SCOPES
    budget: Decimal | None = None


@dataclass(kw_only=True)
class Template:
    """What a container is made from."""

    id: str
    name: str
    docker_image: str
    docker_image_tag: str = "latest"
    docker_image_digest: str = ""
    category: str = "UBUNTU"
    internal_ports: tuple[int, ...] = (22,)
    startup_commands: str = ""
    entrypoint: str = ""
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    volumes: tuple[str, ...] = ("/workspace",)
    is_private: bool = True
    one_time: bool = False
    description: str = ""
    readme: str = ""
    own: bool = True
    statuses: list[str] = field(default_factory=lambda: ["CREATED"])
    """What it shows, one after the other."""
    created_at: datetime

    @property
    def status(self) -> str:
        """Now."""
        return self.statuses[0]

    @property
    def image(self) -> str:
        """As docker takes it."""
        return f"{self.docker_image}:{self.docker_image_tag}" if self.docker_image_tag else self.docker_image

    def look(self) -> None:
        """Somebody read it: what it shows next may be something else."""
        if len(self.statuses) > 1:
            self.statuses.pop(0)


@dataclass
class _Attempt:
    """What is known of one Idempotency-Key."""

    asked: str
    until: datetime
    answer: Answer | Refused | None = None


class Attempts:
    """Idempotency-Keys of rents: the same key gets the same answer, and rents once."""

    def __init__(self, now: Callable[[], datetime], seconds: Callable[[], float]) -> None:
        """`seconds`: how long a rent is worked on."""
        self._now = now
        self._seconds = seconds
        self._known: dict[str, _Attempt] = {}

    def known(self, key: str, asked: str) -> Answer | None:
        """The stored answer, marked as repeated. Refused (409, 422) when there is none yet, or for another request."""
        attempt = self._known.get(key)
        if attempt is None:
            return None
        if attempt.asked != asked:
            raise Refused(422, "idempotency_key_reused", "This Idempotency-Key was used for another request")
        if self._now() < attempt.until:
            raise Refused(409, "idempotency_in_progress", IN_PROGRESS)
        replayed = {"Idempotent-Replayed": "true"}
        if attempt.answer is None:
            raise Refused(409, "idempotency_outcome_unknown", UNKNOWN, headers=replayed)
        if isinstance(attempt.answer, Refused):
            attempt.answer.headers |= replayed
            raise attempt.answer
        return Answer(attempt.answer.body, attempt.answer.status, {**attempt.answer.headers, **replayed})

    def begin(self, key: str, asked: str) -> None:
        """From now on the key is known, and its outcome is not."""
        self._known[key] = _Attempt(asked, self._now() + timedelta(seconds=self._seconds()))

    def settle(self, key: str, answer: Answer | Refused) -> None:
        """The outcome."""
        self._known[key].answer = answer
        if isinstance(answer, Refused):
            self._known[key].until = self._now()


class Account:
    """Everything the account keeps besides pods."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.keys: dict[str, Key] = {}
        self.templates: dict[str, Template] = {}
        self.ssh_keys: dict[str, Row] = {}
        self.volumes: dict[str, Row] = {}
        self._add_defaults()

    def _add_defaults(self) -> None:
        for tag in ("2.8.0-py3.12-cuda12.8.0-devel-ubuntu24.04", "2.6.0-py3.11-cuda12.5.1-devel-ubuntu24.04"):
            template = Template(
                id=str(uuid.uuid5(uuid.NAMESPACE_DNS, tag)),
                name=f"PyTorch {tag[:5]}",
                docker_image=DEFAULT_IMAGE,
                docker_image_tag=tag,
                category="PYTORCH",
                is_private=False,
                own=False,
                statuses=["VERIFY_SUCCESS"],
                created_at=self._now(),
            )
            self.templates[template.id] = template

    def add_key(
        self,
        value: str | None = None,
        *,
        name: str = "key",
        scopes: frozenset[str] = SCOPES,
        budget: Decimal | None = None,
    ) -> str:
        """A credential; a new one is made when none is given."""
        key = Key(
            value=value or f"sk_{secrets.token_hex(32)}", id=str(uuid.uuid4()), name=name, scopes=scopes, budget=budget
        )
        self.keys[key.value] = key
        return key.value

    def revoke(self, value: str) -> None:
        """From now on it is refused."""
        self.keys.pop(value, None)

    def default_template(self) -> Template:
        """What a rent without a template runs."""
        return next(each for each in self.templates.values() if not each.own)

    def template(self, template_id: str) -> Template:
        """By id; Refused (404)."""
        found = self.templates.get(template_id)
        if found is None:
            raise missing("Template")
        return found

    def add_ssh_key(self, name: str, public_key: str) -> Row:
        """A key of the account; pods get only those that their rent names."""
        row = {
            "id": str(uuid.uuid4()),
            "name": name,
            "public_key": public_key,
            "created_at": self._now().isoformat(),
        }
        self.ssh_keys[row["id"]] = row
        return row
