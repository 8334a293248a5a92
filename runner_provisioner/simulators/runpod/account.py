"""The simulated account: credentials and what they may do, templates, registry logins, network volumes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.texts import HttpRefused, Refused


class Permission(StrEnum):
    """What an account key may do."""

    ALL = "all"
    READ = "read"


@dataclass(frozen=True)
class Caller:
    """Who sends a request: an account key, a pod (its own key), or nobody."""

    key: str = field(default="", repr=False)
    permission: Permission | None = None
    pod_id: str | None = None

    @property
    def anonymous(self) -> bool:
        """No credential was sent."""
        return self.permission is None and self.pod_id is None

    def need_account(self) -> None:
        """Only an account key may."""
        self._need_credential()
        if self.pod_id is not None:
            raise HttpRefused(403, texts.NO_PERMISSION)

    def need_write(self, pod_id: str | None = None) -> None:
        """Only a key that may change this pod (None: anything of the account)."""
        self._need_credential()
        if self.pod_id is not None:
            if self.pod_id != pod_id:
                raise HttpRefused(403, texts.NO_PERMISSION)
        elif self.permission is not Permission.ALL:
            raise HttpRefused(403, texts.NO_PERMISSION)

    def need_read(self, pod_id: str) -> None:
        """Only a key that may see this pod."""
        self._need_credential()
        if self.pod_id not in (None, pod_id):
            raise HttpRefused(403, texts.NO_PERMISSION)

    def _need_credential(self) -> None:
        if self.anonymous:
            raise HttpRefused(401, texts.UNAUTHORIZED)


class Keys:
    """Credentials: those of the account and one for each pod."""

    def __init__(self) -> None:
        self.account: dict[str, Permission] = {}
        self.pods: dict[str, str] = {}
        """Pod-scoped key -> pod id."""

    def add(self, value: str | None = None, permission: Permission = Permission.ALL) -> str:
        """An account key; a new one is made when none is given."""
        key = value or f"rpa_{secrets.token_hex(20).upper()}"
        self.account[key] = permission
        return key

    def revoke(self, value: str) -> None:
        """From now on it is refused."""
        self.account.pop(value, None)
        self.pods.pop(value, None)

    def for_pod(self, pod_id: str) -> str:
        """A new pod-scoped key."""
        key = f"rpa_{secrets.token_hex(20).upper()}"
        self.pods[key] = pod_id
        return key

    def caller(self, value: str | None) -> Caller:
        """Who that is; HttpRefused (401) for a key that is not known."""
        if not value:
            return Caller()
        if value in self.account:
            return Caller(value, permission=self.account[value])
        if value in self.pods:
            return Caller(value, pod_id=self.pods[value])
        raise HttpRefused(401, texts.UNAUTHORIZED)


Row = dict[str, Any]


def _new_id() -> str:
    return secrets.token_hex(5)


class Shelf:
    """What an account keeps besides pods."""

    def __init__(self) -> None:
        self.templates: dict[str, Row] = {}
        """By name, which is unique."""
        self.registries: dict[str, Row] = {}
        self.volumes: dict[str, Row] = {}

    def save_template(self, given: Row) -> Row:
        """A new one, or the one of that id again."""
        known = self.templates.get(given["name"])
        if known is not None and known["id"] != given.get("id"):
            raise Refused("Template name must be unique")
        row = {**given, "id": given.get("id") or _new_id()}
        self.templates[row["name"]] = row
        return row

    def template(self, template_id: str) -> Row:
        """By id; Refused when there is none."""
        for row in self.templates.values():
            if row["id"] == template_id:
                return row
        raise Refused("template not found")

    def delete_template(self, name: str) -> None:
        """By name."""
        if self.templates.pop(name, None) is None:
            raise Refused("template not found")

    def save_registry(self, given: Row) -> Row:
        """A login for an image registry; the password is kept nowhere."""
        row = {"id": given.get("id") or _new_id(), "name": given.get("name", "")}
        known = self.registries.get(row["id"])
        if given.get("id") and known is None:
            raise Refused("registry auth not found")
        self.registries[row["id"]] = known or row
        return self.registries[row["id"]]

    def delete_registry(self, registry_id: str) -> bool:
        """By id."""
        if self.registries.pop(registry_id, None) is None:
            raise Refused("registry auth not found")
        return True

    def create_volume(self, given: Row) -> Row:
        """A network volume."""
        row = {**given, "id": _new_id()}
        self.volumes[row["id"]] = row
        return row

    def update_volume(self, given: Row) -> Row:
        """Its name or size."""
        row = self.volumes.get(given["id"])
        if row is None:
            raise Refused("network volume not found")
        row.update({name: value for name, value in given.items() if value is not None})
        return row

    def delete_volume(self, volume_id: str) -> None:
        """By id."""
        if self.volumes.pop(volume_id, None) is None:
            raise Refused("network volume not found")
