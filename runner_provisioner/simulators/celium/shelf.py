"""What an account keeps besides pods: the operations on templates, keys, volumes and money."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from runner_provisioner.simulators.celium.account import USER, Account, Template
from runner_provisioner.simulators.celium.fleet import Fleet
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.texts import Refused, invalid, missing
from runner_provisioner.simulators.celium.views import Views, event_row, template_row
from runner_provisioner.simulators.market.rest import Answer, Asked

Row = dict[str, Any]


class Shelf:
    """Called under the simulator's lock."""

    def __init__(self, fleet: Fleet, account: Account, views: Views) -> None:
        self._fleet = fleet
        self._account = account
        self._views = views
        fleet.on_gone = self.forget

    def acts(self) -> list[tuple[str, str, str, Callable[[Asked], Answer]]]:
        """Method, path, name, and what answers."""
        return [
            ("GET", "/templates", "templates.list", self.templates),
            ("POST", "/templates", "templates.create", self.create_template),
            ("GET", "/templates/{template_id}", "templates.get", self.template),
            ("PUT", "/templates/{template_id}", "templates.update", self.update_template),
            ("GET", "/ssh-keys", "ssh_keys.list", lambda _asked: Answer(list(self._account.ssh_keys.values()))),
            ("POST", "/ssh-keys", "ssh_keys.create", self.create_ssh_key),
            ("DELETE", "/ssh-keys/{key_id}", "ssh_keys.delete", self.delete_ssh_key),
            ("GET", "/volumes", "volumes.list", lambda _asked: Answer(list(self._account.volumes.values()))),
            ("POST", "/volumes", "volumes.create", self.create_volume),
            ("GET", "/volumes/{volume_id}", "volumes.get", lambda asked: Answer(self._volume(asked))),
            ("PUT", "/volumes/{volume_id}", "volumes.update", self.update_volume),
            ("DELETE", "/volumes/{volume_id}", "volumes.delete", self.delete_volume),
            ("GET", "/users/me", "users.me", self.me),
            ("GET", "/users/me/events", "users.events", self.events),
            ("GET", "/account/audit", "account.audit", lambda asked: Answer({"items": self._happened(asked)})),
            ("GET", "/billing/statement", "billing.statement", self.statement),
        ]

    # -- templates

    def forget(self, pod: CeliumPod) -> None:
        """A one-time template goes with its pod."""
        if pod.template.one_time:
            self._account.templates.pop(pod.template.id, None)

    def templates(self, _asked: Asked) -> Answer:
        """One's own and the public ones."""
        for each in self._account.templates.values():
            each.look()
        return Answer([template_row(each) for each in self._account.templates.values()])

    def _template(self, asked: Asked) -> Template:
        return self._account.template(asked.names["template_id"])

    def template(self, asked: Asked) -> Answer:
        """One of them."""
        template = self._template(asked)
        template.look()
        return Answer(template_row(template))

    def create_template(self, asked: Asked) -> Answer:
        """The answer shows the first of its statuses."""
        given = asked.row()
        for name in ("name", "docker_image"):
            if not isinstance(given.get(name), str) or not given[name]:
                raise invalid(name, "Field required")
        template = Template(
            id=str(uuid.uuid4()),
            name=given["name"],
            docker_image=given["docker_image"],
            statuses=list(self._fleet.settings.template_statuses),
            created_at=self._fleet.now(),
        )
        _fill(template, given)
        self._account.templates[template.id] = template
        return Answer(template_row(template))

    def update_template(self, asked: Asked) -> Answer:
        """Only one's own."""
        template = self._template(asked)
        if not template.own:
            raise Refused(403, "forbidden", "Only your own templates can be changed")
        _fill(template, asked.row())
        template.statuses = ["UPDATED"]
        return Answer(template_row(template))

    # -- keys, volumes

    def create_ssh_key(self, asked: Asked) -> Answer:
        """Of the account; pods get those that their rent names."""
        given = asked.row()
        public = given.get("public_key")
        if not isinstance(public, str) or len(public.split()) < 2:  # noqa: PLR2004 - kind and key
            raise invalid("public_key", "Input should be a public key")
        return Answer(self._account.add_ssh_key(str(given.get("name") or "key"), public))

    def delete_ssh_key(self, asked: Asked) -> Answer:
        """By id."""
        if self._account.ssh_keys.pop(asked.names["key_id"], None) is None:
            raise missing("Key")
        return Answer({"success": True})

    def _volume(self, asked: Asked) -> Row:
        found = self._account.volumes.get(asked.names["volume_id"])
        if found is None:
            raise missing("Volume")
        return found

    def create_volume(self, asked: Asked) -> Answer:
        """Not billed here."""
        given = asked.row()
        if not isinstance(given.get("name"), str):
            raise invalid("name", "Field required")
        row = {"id": str(uuid.uuid4()), "name": given["name"], "description": given.get("description") or ""}
        self._account.volumes[row["id"]] = row
        return Answer(row)

    def update_volume(self, asked: Asked) -> Answer:
        """Its name and description."""
        row = self._volume(asked)
        row.update({name: asked.row()[name] for name in ("name", "description") if name in asked.row()})
        return Answer(row)

    def delete_volume(self, asked: Asked) -> Answer:
        """Not while a pod has it."""
        row = self._volume(asked)
        if any(pod.volume_id == row["id"] for pod in self._fleet.current()):
            raise Refused(409, "volume_in_use", "Volume is attached to a pod")
        del self._account.volumes[row["id"]]
        return Answer({"success": True})

    # -- money and memory

    def me(self, _asked: Asked) -> Answer:
        """The account."""
        return Answer(
            {
                "id": USER,
                "email": "somebody@example.com",
                "balance": float(self._fleet.balance()),
                "stripe_customer_id": "cus_simulated",
            }
        )

    def _happened(self, asked: Asked) -> list[Row]:
        """Of all pods or of one, newest first."""
        wanted = asked.first("pod_id") or asked.first("resource_id")
        found = [
            (event.at, number, event_row(pod, event))
            for pod in self._fleet.pods.values()
            for number, event in enumerate(pod.events)
            if wanted in ("", pod.id)
        ]
        rows = [row for *_, row in sorted(found, key=lambda each: each[:2], reverse=True)]
        limit = asked.first("limit", "200")
        return rows[: int(limit) if limit.isdecimal() else len(rows)]

    def events(self, asked: Asked) -> Answer:
        """The account's, newest first."""
        return Answer(self._happened(asked))

    def statement(self, _asked: Asked) -> Answer:
        """What each pod cost, those that are gone too."""
        rows = [self._views.record(pod) for pod in self._fleet.pods.values()]
        pods = [{**row, "total": row["total_usd"], "days": []} for row in rows]
        total = sum(row["total_usd"] for row in rows)
        return Answer({"start_day": None, "end_day": None, "total": total, "pods": pods})


def _fill(template: Template, given: Row) -> None:
    """Take what is given, of the right kind; Refused (422)."""
    kinds: dict[str, tuple[str, type]] = {
        "name": ("name", str),
        "docker_image": ("docker_image", str),
        "docker_image_tag": ("docker_image_tag", str),
        "docker_image_digest": ("docker_image_digest", str),
        "category": ("category", str),
        "startup_commands": ("startup_commands", str),
        "entrypoint": ("entrypoint", str),
        "description": ("description", str),
        "readme": ("readme", str),
        "environment": ("environment", dict),
        "internal_ports": ("internal_ports", list),
        "volumes": ("volumes", list),
        "is_private": ("is_private", bool),
        "one_time_template": ("one_time", bool),
    }
    for name, (attribute, kind) in kinds.items():
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, kind):
            raise invalid(name, "Input has a wrong type")
        setattr(template, attribute, tuple(value) if isinstance(value, list) else value)
    if not template.docker_image_tag and ":" in template.docker_image.rpartition("/")[2]:
        template.docker_image, _, template.docker_image_tag = template.docker_image.rpartition(":")
