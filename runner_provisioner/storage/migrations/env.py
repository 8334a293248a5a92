"""What Alembic runs to migrate: the connection, and its transaction, belong to whoever asked."""

from __future__ import annotations

from alembic import context

from runner_provisioner.storage.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
