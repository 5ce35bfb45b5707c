"""Alembic's migrations of the data store, packaged so that a server can run them by itself."""
