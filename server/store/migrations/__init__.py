"""Alembic's environment and the migrations, forward only: they run by `server.store.schema.migrate`."""
