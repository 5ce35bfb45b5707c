"""A CA server as upstream: attests the node, keeps the agent's SVID renewed, follows changes, and reconnects.

Each SVID of the agent has its own connection: once the server has seen the next SVID, it no longer accepts the previous
one. While the server is unreachable nothing is withdrawn; if it refuses the agent, everything is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

from grpclib.client import Channel

from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.proof import NodeProof
from meshtls.agent.upstream import EntryCsr, SigningResult, Update
from meshtls.bundle import TrustBundle
from meshtls.clock import Clock, SystemClock
from meshtls.complaints import Complaints
from meshtls.errors import AccessError, LocalIdentityError, MeshtlsError, PeerError
from meshtls.identity.renewal import SvidRenewal
from meshtls.identity.request import new_key, request_for
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.revocation.lists import revocations_of
from meshtls.serverapi.channels import attest_channel, mutual_channel
from meshtls.serverapi.node import AttestationClient, NodeClient
from meshtls.serverapi.values import SyncUpdate
from meshtls.spiffeid import TrustDomain
from meshtls.svid.lifetime import backoff
from meshtls.svid.x509 import X509Svid, issuer_key_id_of
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter

__all__ = ["ServerAddress", "ServerUpstream"]

T = TypeVar("T")
#: How long after a new bundle this agent confirms it: its workloads have it by then.
_SPREAD_SECONDS = 2.0
#: The reasons of a failure, by the most specific class of its error.
_REASONS: dict[type[MeshtlsError], str] = {
    AccessError: "refused",
    PeerError: "unverified",
    LocalIdentityError: "unreachable",
    MeshtlsError: "other",
}

log = logger("meshtls.agent")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is reached. ``port`` speaks mutual TLS; ``attest_port`` takes nodes that have no SVID yet.

    Each channel connects at its first call; close it after use.
    """

    host: str
    port: int
    attest_port: int

    def mutual_channel(self, identity: NodeIdentity, trust_domain: TrustDomain, clock: Clock) -> Channel:
        """A channel for an attested agent."""
        return mutual_channel(self.host, self.port, identity, trust_domain, clock)

    def attest_channel(self, bundle: TrustBundle, clock: Clock) -> Channel:
        """A channel for a node without an SVID."""
        return attest_channel(self.host, self.attest_port, bundle, clock)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class ServerUpstream:
    """Implements Upstream. ``async with`` keeps the agent's SVID renewed; the server need not be reachable yet.

    ``proof`` is optional if ``identity`` has a stored SVID. ``jitter`` returns a number in [-1, 1].

    - ``updated_at``: when the latest update came, by the clock's ``monotonic``; None before the first one.
    - ``failures``: how many times following the server failed, by reason: refused, unverified, unreachable or other.
    - ``rotations``: what came of each request for an SVID of the agent's own: attested, renewed or failed.
    """

    def __init__(
        self,
        address: ServerAddress,
        identity: NodeIdentity,
        proof: NodeProof | None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = any_jitter,
    ) -> None:
        self.trouble: str | None = None
        self.updated_at: float | None = None
        self.failures: Counter[str] = Counter()
        self.rotations: Counter[str] = Counter()
        #: Why the server refused this agent first, as long as nothing succeeded since.
        self._refusal = ""
        self._address = address
        self._identity = identity
        self._proof = proof
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._has_bundle = 0
        self._new_bundle = asyncio.Event()
        self._complaints = Complaints(log)
        self._outage = Outage(log, self._clock)
        self._reached = asyncio.Event()
        self._attesting = asyncio.Lock()
        self._channel: Channel | None = None
        self._open = AsyncExitStack()
        self._renewal = SvidRenewal(self._renewed_svid, self._clock, jitter, log)
        if identity.svid is not None:
            # Stored before a restart. The time of its receipt is unknown, so it may be renewed earlier than needed.
            self._renewal.replaced(identity.svid, identity.svid.not_before)

    async def __aenter__(self) -> ServerUpstream:
        await self._open.enter_async_context(in_background(self._renewal.run(), "renew the agent's SVID"))
        await self._open.enter_async_context(in_background(self._confirm_bundles(), "confirm bundles"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()
        self._disconnect()

    @property
    def trust_domain(self) -> TrustDomain:
        return self._identity.bundle.trust_domain

    async def watch(self) -> AsyncGenerator[Update]:
        revision = failures = 0
        while True:
            channel: Channel | None = None
            try:
                channel = await self._channel_now()
                async with aclosing(NodeClient(channel).sync(revision)) as updates:
                    async for update in updates:
                        revision, failures = update.revision, 0
                        yield self._take(update)
                        self._note_bundle(update)
            except MeshtlsError as error:
                if channel is not None and channel is not self._channel:
                    continue
                failures += 1
                reason = next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
                self.failures[reason] += 1
                # An agent that is refused before it was ever accepted has served nothing that could be withdrawn.
                was_accepted = revision > 0 or self._identity.svid is not None
                self._note(error)
                if isinstance(error, AccessError) and was_accepted:
                    revision = 0
                    yield Update(refused=str(error))
            await self._back_off(backoff(failures, self._jitter()))

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        pairs = [(one.entry_id, one.csr) for one in requests]
        return await self._call(lambda node: node.sign_x509(pairs))

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        return await self._call(lambda node: node.sign_jwt(entry_id, audience))

    def __repr__(self) -> str:
        return f"<ServerUpstream {self._address} {self._identity!r}{': ' + self.trouble if self.trouble else ''}>"

    def _take(self, update: SyncUpdate) -> Update:
        self._outage.ended(f"the server at {self._address} answers again")
        self.trouble, self._refusal = None, ""
        self.updated_at = self._clock.monotonic()
        revocations = revocations_of(update.crls)
        if update.bundles:
            self._complaints.update(update.bundles.unusable)
            own = update.bundles.get(self.trust_domain)
            # With a bundle without roots workloads trust no peer, but the agent must still be able to reach the server.
            if own and own.x509_authorities:
                self._identity.trust(own, revocations)
        svid = self._identity.svid
        if svid is not None and issuer_key_id_of(svid.chain[-1]) in update.tainted:
            self._renewal.hasten()
        return Update(
            entries=update.entries,
            removed=update.removed,
            bundles=update.bundles,
            tainted=update.tainted,
            revocations=revocations,
            whole=update.whole,
        )

    def _note_bundle(self, update: SyncUpdate) -> None:
        """The agent has applied this update, and its workloads are being sent the bundle."""
        own = update.bundles.get(self.trust_domain) if update.bundles else None
        if own is not None and own.sequence:
            self._has_bundle = own.sequence
            self._new_bundle.set()

    async def _confirm_bundles(self) -> None:
        """Tell the server of each new bundle: it waits for that before it signs with a new authority."""
        failures = 0
        while True:
            await self._new_bundle.wait()
            self._new_bundle.clear()
            await self._clock.sleep(_SPREAD_SECONDS)
            try:
                await self._call(partial(NodeClient.confirm_bundle, sequence=self._has_bundle))
                failures = 0
            except MeshtlsError as error:
                failures += 1
                log.debug("the bundle could not be confirmed, trying again: %s", error)
                await self._clock.sleep(backoff(failures, self._jitter()))
                self._new_bundle.set()

    def _note(self, error: MeshtlsError) -> None:
        refused = isinstance(error, AccessError)
        meaning = "it refuses this agent, which serves no identities until it is accepted again: " if refused else ""
        level = logging.ERROR if refused else logging.WARNING
        self._outage.failed(
            (type(error), type(error.__cause__)),
            f"the server at {self._address}: {meaning}{error}; trying again",
            level,
        )
        since = f"{self._outage.since:%Y-%m-%dT%H:%M:%SZ}"
        if refused and not self._refusal:
            self._refusal = str(error)
        # A refused agent attests again, which may fail for another reason than that of its refusal.
        why = f"{self._refusal}; then {error}" if self._refusal not in ("", str(error)) else str(error)
        self.trouble = f"the server at {self._address}, try {self._outage.failures} since {since}: {why}"
        if refused:
            self._identity.forget()
            self._renewal.lost()
            self._disconnect()

    async def _call(self, ask: Callable[[NodeClient], Awaitable[T]]) -> T:
        try:
            return await self._call_on_newest(ask)
        except AccessError as error:
            raise LocalIdentityError(f"the server at {self._address} refuses this agent: {error}") from error

    async def _call_on_newest(self, ask: Callable[[NodeClient], Awaitable[T]]) -> T:
        """Call on the present connection, and once more if it was replaced meanwhile."""
        channel = await self._channel_now()
        try:
            answer = await ask(NodeClient(channel))
        except (AccessError, LocalIdentityError):
            if channel is self._channel:
                raise
            answer = await ask(NodeClient(await self._channel_now()))
        self._reached.set()
        return answer

    async def _back_off(self, seconds: float) -> None:
        """Wait this long, or until another call reaches the server: renewals of expired SVIDs try every second."""
        self._reached.clear()
        async with in_background(self._reach_after(seconds), "back off"):
            await self._reached.wait()

    async def _reach_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._reached.set()

    async def _channel_now(self) -> Channel:
        async with self._attesting:
            if not self._identity.valid:
                self._disconnect()
                await self._attest()
            if self._channel is None:
                self._channel = self._address.mutual_channel(self._identity, self.trust_domain, self._clock)
            return self._channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def set_proof(self, proof: NodeProof | None) -> None:
        """Use this proof from the next attestation on."""
        self._proof = proof

    async def _attest(self) -> None:
        if self._proof is None:
            # Not the server's refusal: what this agent serves is withdrawn for none but that.
            raise LocalIdentityError("this agent has no valid SVID: give it a join token, or a certificate for x509pop")
        key = new_key()
        channel = self._address.attest_channel(self._identity.bundle, self._clock)
        try:
            with self._counted("attested"):
                proof, domain = self._proof, self.trust_domain
                attested = await proof.attest(AttestationClient(channel), domain, request_for(key))
                svid = self._identity.adopt(attested.chain, key, attested.bundle)
        finally:
            channel.close()
        self._renewal.replaced(svid)

    async def _renewed_svid(self) -> X509Svid:
        key = new_key()
        csr = request_for(key)
        with self._counted("renewed"):
            svid = self._identity.adopt(await self._call(lambda node: node.renew(csr)), key)
        self._disconnect()
        return svid

    @contextmanager
    def _counted(self, result: str) -> Iterator[None]:
        try:
            yield
        except MeshtlsError:
            self.rotations["failed"] += 1
            raise
        self.rotations[result] += 1
