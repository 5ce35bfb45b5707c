"""The four holders that renew SVIDs, each over a real CA, a real store or a real server, on the test's own clock."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.identities import Identities
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.proof import NodeCertificate
from meshtls.agent.node.upstream import ServerAddress, ServerUpstream
from meshtls.agent.upstream import EntryCsr, SigningResult
from meshtls.ca.authority import Authority
from meshtls.ca.keys.memory import MemoryKeys
from meshtls.errors import LocalIdentityError
from meshtls.identity.issuer import IssuedWithBundles, LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.server.audit import AuditTrail
from meshtls.server.jwt_key import JwtKey
from meshtls.server.ledger import Ledger
from meshtls.server.log_guard import LogGuard
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.settings import ServerConfig, X509PopConfig
from meshtls.server.signing import Signing
from meshtls.server.startup import opened_database
from meshtls.server.store.address import sqlite_url
from meshtls.server.transparency import TransparencyLog
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.workload.background import in_background
from tests.support.agent import OURS, entry
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import ServerUnderTest, config_for, started

__all__ = ["HOLDERS", "Holder", "Plan"]

WEB = SpiffeId(OURS, "/web")


def no_jitter() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Each SVID lives ``life`` seconds. The CA is unavailable from second ``fails`` until second ``works``.

    ``start`` is the clock's first reading, in seconds from the machine's time, which OpenSSL uses to check the
    certificates of the agent and its server.
    """

    life: int
    start: float
    fails: float = float("inf")
    works: float = float("inf")


@dataclass(slots=True)
class Holder:
    """``present`` returns something that every renewal changes; ``failing`` switches an outage of the CA on and off.

    ``also_moves`` are clocks to advance by the same time.
    """

    clock: ManualClock
    present: Callable[[], object]
    failing: Callable[[bool], object]
    also_moves: list[ManualClock] = field(default_factory=list)


class FailingUpstream(EmbeddedUpstream):
    failing = False

    def set_failing(self, failing: bool) -> None:
        self.failing = failing

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        if self.failing:
            raise LocalIdentityError("no CA answers")
        return await super().sign_x509(requests)


class FailingIssuer(LocalIssuer):
    failing = False

    def set_failing(self, failing: bool) -> None:
        self.failing = failing

    async def issue(self, csr_der: bytes) -> IssuedWithBundles:
        if self.failing:
            raise LocalIdentityError("no CA answers")
        return await super().issue(csr_der)


@asynccontextmanager
async def source_in_process(plan: Plan, clock: ManualClock, _: Path) -> AsyncIterator[Holder]:
    issuer = FailingIssuer(make_authority(clock=clock), WEB, ttl=timedelta(seconds=plan.life))
    async with RotatingSource(issuer, clock, no_jitter) as source:
        yield Holder(clock, lambda: source.status.generation, issuer.set_failing)


@asynccontextmanager
async def agents_svids(plan: Plan, clock: ManualClock, _: Path) -> AsyncIterator[Holder]:
    upstream = FailingUpstream(make_authority(clock=clock), clock, [entry("/web", ttl=plan.life)])
    identities = Identities(upstream, clock, no_jitter)
    async with in_background(identities.run(), "identities"):
        await identities.until_ready()
        yield Holder(clock, lambda: identities.cache.svid_of("/web"), upstream.set_failing)


@asynccontextmanager
async def servers_own_svid(plan: Plan, clock: ManualClock, directory: Path) -> AsyncIterator[Holder]:
    jwt_key = JwtKey(ec.generate_private_key(ec.SECP256R1()))
    signing = Signing("server-1", Authority.create(OURS, clock), jwt_key, MemoryKeys().log_key(), clock)
    store = directory / "store.sqlite3"

    def set_failing(failing: bool) -> None:
        # No issuance can be recorded while its table is renamed.
        renamed = ("issuances", "issuances_away") if failing else ("issuances_away", "issuances")
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("ALTER TABLE {} RENAME TO {}".format(*renamed))

    async with opened_database(config_for(directory, sqlite_url(store))) as database:
        life = timedelta(seconds=plan.life)
        log = TransparencyLog(database, LogGuard(directory), signing.log_key, signing.server_id)
        await log.open(OURS)
        identity = ServerIdentity(
            OURS,
            signing,
            Ledger(database, log, AuditTrail(signing.server_id, clock)),
            clock,
            life=life,
            jitter=no_jitter,
        )
        await identity.renew()
        async with in_background(identity.keep(), "keep"):
            yield Holder(clock, lambda: identity.svid, set_failing)


class _Server:
    """A server that can be stopped and restarted on the same ports, for nodes with a certificate of their own."""

    def __init__(self, config: ServerConfig, clock: ManualClock) -> None:
        self.config = config
        self._clock = clock
        self._open = AsyncExitStack()

    async def start(self) -> ServerUnderTest:
        server = await self._open.enter_async_context(started(self.config, self._clock))
        running = server.running
        self.config = replace(self.config, bind_port=running.address[1], attest_port=running.attest_address[1])
        return server

    async def stop(self) -> None:
        await self._open.aclose()

    async def set_failing(self, failing: bool) -> None:
        if failing:
            await self.stop()
        else:
            await self.start()


@asynccontextmanager
async def agents_own_svid(plan: Plan, clock: ManualClock, directory: Path) -> AsyncIterator[Holder]:
    nodes = make_authority("nodes.test", clock)
    roots = directory / "nodes.pem"
    roots.write_bytes(nodes.bundle.to_pem())
    key = ec.generate_private_key(ec.SECP256R1())
    proof = NodeCertificate(nodes.issue(SpiffeId(TrustDomain("nodes.test"), "/node-1"), key.public_key()), key)
    # A separate clock: the test waits for the sleepers on the agent's.
    servers_clock = ManualClock(clock.now())
    life = timedelta(seconds=plan.life)
    server = _Server(config_for(directory, agent_ttl=life, x509pop=X509PopConfig((roots,))), servers_clock)
    try:
        running = await server.start()
        host, port = running.running.address
        where = ServerAddress(host, port, running.running.attest_address[1])
        identity = NodeIdentity(await running.admin.bundle(), None, clock)
        async with ServerUpstream(where, identity, proof, clock, no_jitter) as upstream:
            await upstream.sign_x509([])
            yield Holder(clock, lambda: identity.svid, server.set_failing, [servers_clock])
    finally:
        await server.stop()


HOLDERS = (source_in_process, agents_svids, agents_own_svid, servers_own_svid)


def clock_for(plan: Plan) -> ManualClock:
    """A clock that starts at a whole second, as certificates have whole seconds only."""
    return ManualClock(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=plan.start))
