"""The simulated account: credentials, SSH keys, teams, templates from the dashboard, disks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from runner_provisioner.simulators.market.rest import Refusal

USER = "user_simulated"
WALLET = "wallet_simulated"


class Permission(StrEnum):
    """What a key may do with instances."""

    ALL = "Instances -> Read and write"
    READ = "Instances -> Read"


@dataclass(kw_only=True)
class SshKey:
    """A public key of the account."""

    id: str
    name: str
    public_key: str
    primary: bool = False

    def row(self) -> dict[str, object]:
        """As the API shows it."""
        return {
            "id": self.id,
            "userId": USER,
            "name": self.name,
            "publicKey": self.public_key,
            "isPrimary": self.primary,
            "isUserKey": True,
        }


@dataclass(frozen=True, kw_only=True)
class Template:
    """A custom template; its command is that of its image."""

    id: str
    image: str


@dataclass(kw_only=True)
class Disk:
    """A disk that outlives pods; not billed here."""

    id: str
    name: str
    size: int
    provider: str
    data_center: str
    cloud_id: str | None
    country: str | None
    team_id: str | None
    created_at: datetime
    pods: list[str] = field(default_factory=list)


def new_id(prefix: str = "") -> str:
    """As long as Prime's."""
    return prefix + secrets.token_hex(12)


class Account:
    """Everything the account keeps besides pods."""

    def __init__(self) -> None:
        self.keys: dict[str, Permission] = {}
        self.ssh_keys: dict[str, SshKey] = {}
        self.teams: set[str] = set()
        self.templates: dict[str, Template] = {}
        self.disks: dict[str, Disk] = {}

    def add_key(self, value: str | None = None, permission: Permission = Permission.ALL) -> str:
        """A credential; a new one is made when none is given."""
        key = value or f"pit_{secrets.token_hex(32)}"
        self.keys[key] = permission
        return key

    def revoke(self, value: str) -> None:
        """From now on it is refused."""
        self.keys.pop(value, None)

    def add_ssh_key(self, name: str, public_key: str) -> SshKey:
        """The first one is the primary."""
        key = SshKey(id=new_id(), name=name, public_key=public_key.strip(), primary=not self.ssh_keys)
        self.ssh_keys[key.id] = key
        return key

    def make_primary(self, key: SshKey, *, primary: bool = True) -> None:
        """The only one that new pods get by themselves."""
        for each in self.ssh_keys.values():
            each.primary = primary and each is key

    def keys_for(self, ssh_key_id: str | None) -> list[str]:
        """Who may log in to a new pod: this key, or the primary one. Refusal (404) for an unknown one."""
        if ssh_key_id:
            key = self.ssh_keys.get(ssh_key_id)
            if key is None:
                raise Refusal(404, {"detail": "SSH key not found"})
            return [key.public_key]
        return [key.public_key for key in self.ssh_keys.values() if key.primary]

    def add_template(self, image: str, template_id: str | None = None) -> Template:
        """As somebody does in the dashboard."""
        template = Template(id=template_id or new_id("cm"), image=image)
        self.templates[template.id] = template
        return template
