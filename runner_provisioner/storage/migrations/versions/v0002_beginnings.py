"""Since when what was spent is known, in a table of its own: a refusal or a bad machine proves nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

MOMENT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A file that has pods was trusted from the first of them on, and still is."""
    op.create_table("beginnings", sa.Column("at", MOMENT, nullable=False))
    op.execute("INSERT INTO beginnings (at) SELECT min(created_at) FROM pods HAVING min(created_at) IS NOT NULL")
