"""The service: its keys, requests that must not be served twice, the pods made over HTTP, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Four new tables; `counted` is in millionths of a US dollar, so that it can be summed up."""
    _keys()
    _requests()
    _pods()
    _audit()


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("permission", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _LONG, nullable=False),
        sa.Column("expires_at", _LONG),
        sa.Column("revoked_at", _LONG),
        sa.Column("budget", sa.String),
    )
    good = sa.text("revoked_at IS NULL")
    op.create_index("api_keys_name", "api_keys", ["name"], unique=True, sqlite_where=good, postgresql_where=good)


def _requests() -> None:
    op.create_table(
        "idempotent_requests",
        sa.Column("caller", sa.String, primary_key=True),
        sa.Column("operation", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("pod_name", sa.String, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("held_until", _LONG, nullable=False),
        sa.Column("begun_at", _LONG, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.String),
    )
    op.create_index("idempotent_requests_begun_at", "idempotent_requests", ["begun_at"])


def _pods() -> None:
    op.create_table(
        "served_pods",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("nonce", sa.String),
        sa.Column("contract", sa.String, nullable=False),
        sa.Column("key_id", sa.String),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("requested_at", _LONG, nullable=False),
        sa.Column("expires_at", _LONG, nullable=False),
        sa.Column("reserved", sa.String, nullable=False),
        sa.Column("provider", sa.String),
        sa.Column("id", sa.String),
        sa.Column("price", sa.String),
        sa.Column("gpu_model", sa.String),
        sa.Column("gpu_count", sa.Integer),
        sa.Column("interruptible", sa.Boolean),
        sa.Column("image", sa.String),
        sa.Column("facts", sa.String, nullable=False),
        sa.Column("created_at", _LONG),
        sa.Column("ended_at", _LONG),
        sa.Column("cost", sa.String),
        sa.Column("counted", _LONG, nullable=False),
    )
    for name in ("id", "key_id", "created_at", "ended_at"):
        op.create_index(f"served_pods_{name}", "served_pods", [name])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("at", _LONG, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("key_id", sa.String),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("client", sa.String, nullable=False),
    )
    op.create_index("audit_at", "audit", ["at"])
