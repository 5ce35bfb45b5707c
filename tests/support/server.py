"""A whole server for a test: real sockets, a real database, and clients of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.client import Channel
from sqlalchemy import URL, text

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.clock import Clock, SystemClock
from meshtls.registration import Entry, Selector
from meshtls.server.config import parse_config
from meshtls.server.core import Core
from meshtls.server.run import RunningServer, running_server
from meshtls.server.settings import ServerConfig
from meshtls.server.signing import Signing
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import attest_channel, local_channel, mutual_channel
from meshtls.serverapi.node import AttestationClient, Attested, NodeClient
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.x509 import PrivateKey, X509Svid
from tests.support.authority import csr_for

TD = TrustDomain("example.org")


def new_csr(key: PrivateKey | None = None, uri: str | None = None) -> bytes:
    """A DER request by a new key, or this one."""
    return csr_for(key or ec.generate_private_key(ec.SECP256R1()), uri).public_bytes(Encoding.DER)


def own_authority(signing: Signing) -> Authority:
    """The CA that signs, which has a root of its own."""
    assert isinstance(signing.authority, Authority)
    return signing.authority


def entry(path: str, parent: SpiffeId, *selectors: str, **more: Any) -> Entry:
    """An entry of example.org, by default with the selector of uid 1000."""
    parsed = tuple(map(Selector.parse, selectors or ("unix:uid:1000",)))
    return Entry(spiffe_id=SpiffeId(TD, path), parent_id=parent, selectors=parsed, **more)


def config_for(directory: Path, datastore: URL | None = None, **changed: Any) -> ServerConfig:
    """A server on free loopback ports with its data in ``directory``."""
    content = f"trust_domain: {TD}\nbind_port: 0\ndata_dir: {directory / 'server'}\n"
    config = parse_config("test.yaml", content)
    return replace(config, datastore=datastore or config.datastore, **changed)


@asynccontextmanager
async def full_disk(core: Core, table: str) -> AsyncIterator[None]:
    """While the body runs, the store, which has to be SQLite, takes no new rows of this table."""
    trigger = f"CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    async with core.database.write() as tx:
        await tx.execute(text(trigger))
    yield
    async with core.database.write() as tx:
        await tx.execute(text("DROP TRIGGER full"))


@dataclass(frozen=True, slots=True)
class Agent:
    """An attested agent: its SPIFFE ID, its client, and its identity."""

    spiffe_id: SpiffeId
    client: NodeClient
    svid: X509Svid
    bundle: TrustBundle


class ServerUnderTest:
    """A running server; its channels are closed with it."""

    def __init__(self, running: RunningServer, clock: Clock, opened: AsyncExitStack) -> None:
        self.running = running
        self._clock = clock
        self._opened = opened
        self.admin = AdminClient(self.keep(local_channel(running.socket_path)))

    def keep(self, channel: Channel) -> Channel:
        self._opened.callback(channel.close)
        return channel

    async def attestation(self) -> AttestationClient:
        """A client for a node that has the server's bundle."""
        bundle = await self.admin.bundle()
        return AttestationClient(self.keep(attest_channel(*self.running.attest_address, bundle, self._clock)))

    async def new_agent(self) -> Agent:
        """An agent that was attested by a new join token."""
        key = ec.generate_private_key(ec.SECP256R1())
        token = await self.admin.create_join_token()
        return self.agent(await (await self.attestation()).with_token(token.token, new_csr(key)), key)

    def agent(self, attested: Attested, key: PrivateKey) -> Agent:
        svid = X509Svid.from_chain(attested.chain, key)
        return Agent(svid.spiffe_id, self.node_client(svid, attested.bundle), svid, attested.bundle)

    def node_client(self, svid: X509Svid, bundle: TrustBundle) -> NodeClient:
        return NodeClient(self.mutual(svid, bundle))

    def mutual(self, svid: X509Svid, bundle: TrustBundle) -> Channel:
        """A channel over mutual TLS for the holder of this SVID."""
        source = ConstantSource(X509Context(1, (svid,), BundleSet([bundle])))
        return self.keep(mutual_channel(*self.running.address, source, TD, self._clock))


@asynccontextmanager
async def started(config: ServerConfig, clock: Clock | None = None) -> AsyncIterator[ServerUnderTest]:
    """Run this server while the body runs."""
    clock = clock or SystemClock()
    async with running_server(config, clock) as running, AsyncExitStack() as opened:
        yield ServerUnderTest(running, clock, opened)
