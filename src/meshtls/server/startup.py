"""Opens the parts of a server in order: data directory, keys, schema, authorities in the bundle, hub, its own SVID."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from sqlalchemy import URL

from meshtls.clock import Clock
from meshtls.errors import ConfigError, MeshtlsError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory
from meshtls.regular_files import read_regular
from meshtls.server.access import Authenticator
from meshtls.server.audit import AuditTrail
from meshtls.server.authorities import Authorities
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.core import Core
from meshtls.server.hub import Hub
from meshtls.server.keys import opened_signing
from meshtls.server.ledger import Ledger
from meshtls.server.log_guard import LogGuard
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.revoking import Revoking
from meshtls.server.settings import NestedUpstream, ServerConfig, X509PopConfig
from meshtls.server.signing import Signing
from meshtls.server.store.database import Database
from meshtls.server.store.migrate import SchemaVersion, migrate, schema_version, wanted_schema
from meshtls.server.transparency import TransparencyLog
from meshtls.server.upstream.authority import UpstreamAuthority
from meshtls.server.upstream.disk import DiskAuthority
from meshtls.server.upstream.nested import opened_nested
from meshtls.server.upstream.rotation import UpstreamRotation
from meshtls.workload.calls import any_jitter

__all__ = [
    "assemble",
    "datastore_version",
    "locked_data_dir",
    "node_roots",
    "opened_core",
    "opened_database",
]


@asynccontextmanager
async def opened_core(config: ServerConfig, clock: Clock) -> AsyncIterator[tuple[Core, ServerIdentity]]:
    """The parts that operations need, without listeners, and the server's own SVID. Raises ConfigError, StoreError."""
    roots = node_roots(config.x509pop)
    with locked_data_dir(config), opened_signing(config, clock) as (signing, keys):
        async with opened_database(config) as database, _opened_upstream(config, signing.server_id, clock) as source:
            guard = LogGuard(config.data_dir)
            core, identity = await assemble(config, clock, database, guard, signing, keys, source=source)
            core.node_roots = roots
            try:
                yield core, identity
            finally:
                # Also where the body is cancelled, as by a signal: a data store that is restored from a backup before
                # the next start could not be told from the newest one otherwise.
                with contextlib.suppress(MeshtlsError):  # the log stays as it is, and is signed at the next start
                    await core.log.publish()


async def assemble(
    config: ServerConfig,
    clock: Clock,
    database: Database,
    guard: LogGuard,
    signing: Signing,
    keys: AuthorityKeys,
    jitter: Callable[[], float] = any_jitter,
    source: UpstreamAuthority | None = None,
) -> tuple[Core, ServerIdentity]:
    """The parts over an open store, this server's keys and its log guard: the log continues what was signed, the
    authorities are in the bundle, and the server's own SVID is on record. Raises ConfigError, StoreError.
    """
    log = TransparencyLog(database, guard, signing.log_key, signing.server_id)
    await log.open(config.trust_domain)
    trail = AuditTrail(signing.server_id, clock)
    ledger = Ledger(database, log, trail)
    identity = ServerIdentity(config.trust_domain, signing, ledger, clock, jitter=jitter)
    hub = Hub(config.trust_domain, database, clock, identity.trust)
    above = None
    if source is not None:
        above = UpstreamRotation(database, hub, signing, keys, ledger, clock, source, config.ca_ttl)
    authorities = Authorities(database, hub, signing, keys, ledger, clock, above)
    if source is not None:
        source.on_change(authorities.changed.set)
    revoking = Revoking(database, hub, signing.server_id, keys, ledger, clock)
    await authorities.open()
    await hub.load()
    await authorities.tick()
    await identity.renew()
    core = Core(
        config=config,
        database=database,
        hub=hub,
        signing=signing,
        authorities=authorities,
        revoking=revoking,
        ledger=ledger,
        log=log,
        trail=trail,
        authenticator=Authenticator(hub, database, clock),
        clock=clock,
        node_roots=(),
    )
    return core, identity


@asynccontextmanager
async def _opened_upstream(config: ServerConfig, own_id: str, clock: Clock) -> AsyncIterator[UpstreamAuthority | None]:
    upstream = config.upstream
    if isinstance(upstream, NestedUpstream):
        async with opened_nested(upstream, config.trust_domain, own_id, clock) as nested:
            yield nested
    else:
        yield DiskAuthority(upstream, config.trust_domain, clock, config.ca_subject) if upstream else None


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


def node_roots(config: X509PopConfig | None) -> tuple[x509.Certificate, ...]:
    """The CAs of nodes that attest by certificate; none where x509pop is not configured. Raises ConfigError."""
    roots: list[x509.Certificate] = []
    for file in config.ca_bundles if config is not None else ():
        try:
            roots += x509.load_pem_x509_certificates(read_regular(file))
        except (OSError, *PARSE_ERRORS) as error:
            raise ConfigError(f"{file}: wanted CA certificates in PEM for x509pop: {error}") from error
    return tuple(roots)


def _is_missing_file(datastore: URL) -> bool:
    return datastore.get_backend_name() == "sqlite" and not Path(datastore.database or "").exists()
