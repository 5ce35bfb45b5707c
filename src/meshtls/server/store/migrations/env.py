"""Run by Alembic, in the transaction that ``meshtls.server.store.migrate`` opened."""

from alembic import context

from meshtls.server.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
