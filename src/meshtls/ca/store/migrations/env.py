"""What Alembic runs: in the transaction that ``meshtls.ca.store.migrate`` opened."""

from alembic import context

from meshtls.ca.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
