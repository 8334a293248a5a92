"""How the history's file came to its present form, for Alembic; once published, a migration is never changed."""
