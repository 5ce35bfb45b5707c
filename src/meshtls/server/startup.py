"""Opens the parts of a server in order: data directory, keys, schema, authorities in the bundle, hub, its own SVID."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from cryptography import x509
from sqlalchemy import URL

from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory
from meshtls.server.access import Authenticator
from meshtls.server.core import Core
from meshtls.server.hub import Hub
from meshtls.server.keys import opened_signing
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.settings import ServerConfig, X509PopConfig
from meshtls.server.signing import Signing
from meshtls.server.store import bundles
from meshtls.server.store.bundles import jwt_authority, x509_authority
from meshtls.server.store.database import Database
from meshtls.server.store.issuances import last_not_after
from meshtls.server.store.migrate import SchemaVersion, migrate, schema_version, wanted_schema

__all__ = [
    "datastore_version",
    "locked_data_dir",
    "node_roots",
    "opened_core",
    "opened_database",
    "publish_authorities",
]


@asynccontextmanager
async def opened_core(config: ServerConfig, clock: Clock) -> AsyncIterator[tuple[Core, ServerIdentity]]:
    """The parts that operations need, without listeners, and the server's own SVID. Raises ConfigError, StoreError."""
    roots = node_roots(config.x509pop)
    with locked_data_dir(config), opened_signing(config, clock) as signing:
        async with opened_database(config) as database:
            await publish_authorities(database, config, signing, clock.now())
            identity = ServerIdentity(config.trust_domain, signing, database, clock)
            hub = Hub(config.trust_domain, database, clock, identity.trust)
            await hub.load()
            await identity.renew()
            yield Core(config, database, hub, signing, Authenticator(hub, database, clock), clock, roots), identity


@contextlib.contextmanager
def locked_data_dir(config: ServerConfig) -> Iterator[None]:
    """The data directory, private to this user and locked for this process. Raises ConfigError."""
    descriptor = lock_directory(config.data_dir)
    try:
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def opened_database(config: ServerConfig) -> AsyncIterator[Database]:
    """The store with this version's schema. Raises StoreError or ConfigError."""
    database = Database(config.datastore)
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()


async def datastore_version(config: ServerConfig) -> SchemaVersion:
    """The schema of the data store, which is neither created nor changed. Raises StoreError or ConfigError."""
    if _is_missing_file(config.datastore):
        return SchemaVersion(None, wanted_schema())
    database = Database(config.datastore)
    try:
        return await schema_version(database)
    finally:
        await database.close()


async def publish_authorities(database: Database, config: ServerConfig, signing: Signing, now: datetime) -> None:
    """Publish this server's root and JWT key in the bundle of all servers. Raises StoreError.

    Its former ones stay in the bundle until the last SVID that they signed has expired.
    """
    [root] = signing.authority.bundle.x509_authorities
    key = signing.jwt_key
    mine = (
        x509_authority(root),
        jwt_authority(key.kid, key.private_key.public_key(), root.not_valid_after_utc),
    )
    async with database.write() as tx:
        for authority in mine:
            await bundles.publish(tx, config.trust_domain, signing.server_id, authority)
            last = await last_not_after(tx, signing.server_id, authority.kind)
            await bundles.retire_others(tx, signing.server_id, authority, max(last or now, now))
        await bundles.expired_authorities(tx, config.trust_domain, now)


def node_roots(config: X509PopConfig | None) -> tuple[x509.Certificate, ...]:
    """The CAs of nodes that attest by certificate; none where x509pop is not configured. Raises ConfigError."""
    if config is None:
        return ()
    return tuple(root for file in config.ca_bundles for root in _roots_in(file))


def _roots_in(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, *PARSE_ERRORS) as error:
        raise ConfigError(f"{file}: wanted CA certificates in PEM for x509pop: {error}") from error


def _is_missing_file(datastore: URL) -> bool:
    return datastore.get_backend_name() == "sqlite" and not Path(datastore.database or "").exists()
