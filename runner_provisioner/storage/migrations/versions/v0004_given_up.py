"""Of each pod made over HTTP: when its create was last about to be sent, and since when nobody wants it any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

MOMENT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Of what is there already neither is known."""
    for name in ("sent_at", "given_up_at"):
        op.add_column("served_pods", sa.Column(name, MOMENT))
