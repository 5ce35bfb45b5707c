"""A second trust domain: its server, the bundle endpoint of that as our servers reach it, and one workload's SVID.

The endpoint may be out of reach, slow, asked twice, or give a wrong bundle. The connection is verified by the context
of the program's own fetch, and request and response are the bytes of HTTP that the program writes and reads.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum

from meshtls.bundle import TrustBundle
from meshtls.errors import LocalIdentityError, PeerError
from meshtls.http_client import HttpClientError, HttpResponse, ResponseReading
from meshtls.identity.request import new_key, request_for
from meshtls.registration import server_id
from meshtls.rpc.small_http import Answer, Request
from meshtls.server.bundle_endpoint import PublishedBundle
from meshtls.server.bundle_fetching import LARGEST_DOCUMENT
from meshtls.server.core import Core
from meshtls.server.operations.svids import mint_x509
from meshtls.server.signing import Signed
from meshtls.serverapi.federation import Endpoint, Profile, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.tls.bootstrap import AnonymousClientContext
from tests.simulation.disk import KeptGuard
from tests.simulation.loop import SimProcess, current_process
from tests.simulation.machines import OPERATOR, ServerMachine, Setting, certificates_of, der_of, outcome

__all__ = ["HINT", "PARTNER", "RELATION", "Misanswer", "Partner"]

PARTNER = TrustDomain("partner.test")
#: The endpoint's refresh hint in seconds, the shortest that counts.
HINT = 5
_NAME = "p"
_NUMBER = 9
RELATION = Relation(
    trust_domain=PARTNER, url=f"https://{_NAME}/", profile=Profile.HTTPS_SPIFFE, endpoint_id=server_id(PARTNER)
)


class Misanswer(Enum):
    """What the endpoint gives instead of the present bundle: an older one, or one with an authority of ours."""

    OLDER = "an older bundle"
    FOREIGN = "an authority of ours"


class Partner:
    """``get`` is the network of our servers' fetches. ``chains`` has the newest SVID of the workload below each
    authority, by its id, in DER: whoever has stolen one presents it still.

    ``failures`` counts the attempts in a row, by the process that asks, which gave no good bundle. ``ours`` gives our
    own bundle.
    """

    def __init__(self, setting: Setting, guard: KeptGuard, ours: Callable[[], TrustBundle]) -> None:
        self.machine = ServerMachine(setting, _NAME, _NUMBER, guard)
        self.spiffe_id = SpiffeId(PARTNER, "/w")
        self.chains: dict[str, list[bytes]] = {}
        self.misanswer: Misanswer | None = None
        self.failures: dict[SimProcess, int] = {}
        self._network = setting.network
        self._ours = ours
        self._csr: bytes | None = None
        self._bundles: list[TrustBundle] = []
        self._published: tuple[Core, PublishedBundle] | None = None

    @property
    def bundle(self) -> TrustBundle | None:
        """The newest that was seen, as its endpoint gives it; None before the first start."""
        self.look()
        return self._bundles[-1] if self._bundles else None

    def look(self) -> None:
        """Note the present bundle."""
        if self.machine.core is None:
            return
        present = replace(self.machine.core.hub.bundle, refresh_hint=HINT)
        if not self._bundles or self._bundles[-1] != present:
            self._bundles.append(present)

    def renew(self) -> None:
        """Its workload gets a new SVID, if the server is up."""
        core, process = self.machine.core, self.machine.process
        if core is None or process is None or not process.alive:
            return
        self._csr = self._csr or request_for(new_key())
        minting = process.spawn(outcome(mint_x509(core, OPERATOR, self.spiffe_id, self._csr)))

        def minted(done: asyncio.Task[object]) -> None:
            made = done.result()
            if isinstance(made, Signed):
                authority = made.record.authority or ""
                self.chains.pop(authority, None)  # the newest is the last
                self.chains[authority] = certificates_of(made.chain)

        minting.add_done_callback(minted)

    async def get(
        self, endpoint: Endpoint, context: ssl.SSLContext, headers: Sequence[tuple[str, str]]
    ) -> HttpResponse:
        """A meshtls.server.bundle_fetching.Get."""
        asker = current_process()
        self.failures[asker] = self.failures.get(asker, 0) + 1
        there = self.machine.name
        for _ in ("TCP", "TLS"):
            await self._travel(asker.name, there)
            await self._travel(there, asker.name)
        process = self._shake_hands(endpoint, context)
        await self._travel(asker.name, there)
        request = Request("GET", endpoint.target, fields={name.lower(): value for name, value in headers})
        answering = process.spawn(self._answer(request))
        if self._network.is_doubled(asker.name, there):
            process.spawn(self._answer(request))
        await asyncio.wait([answering])
        if answering.cancelled() or answering.exception() is not None:
            raise HttpClientError(f"{endpoint.address} closed the connection without an answer")
        await self._travel(there, asker.name)
        answer, is_good = answering.result()
        if is_good:
            self.failures[asker] = 0
        reading = ResponseReading(bodiless=False, largest=LARGEST_DOCUMENT)
        reading.feed(answer.encoded(body=True))
        return HttpResponse(reading.status, tuple(reading.headers), bytes(reading.body))

    def _shake_hands(self, endpoint: Endpoint, context: ssl.SSLContext) -> SimProcess:
        """The server's process, whose SVID the context has verified."""
        assert isinstance(context, AnonymousClientContext)
        identity, process = self.machine.identity, self.machine.process
        if not self.machine.serves or identity is None or process is None:
            raise HttpClientError(f"{endpoint.address} can't be reached: Connection refused")
        try:
            context.check_peer(der_of(identity.snapshot().svid), endpoint.address.port)
        except LocalIdentityError as error:
            raise HttpClientError(f"{endpoint.address}: it ended the connection in the TLS handshake") from error
        except PeerError as error:
            raise HttpClientError(f"{endpoint.address}: its certificate is refused: {error}") from error
        return process

    async def _answer(self, request: Request) -> tuple[Answer, bool]:
        """In the process of the partner's server. The second value is whether this is the present bundle."""
        current_process().step()
        core = self.machine.core
        assert core is not None
        self.look()
        if self._published is None or self._published[0] is not core:
            self._published = core, PublishedBundle(lambda: core.hub.bundle, HINT)
        present, older = self._bundles[-1], self._bundles[0]
        if self.misanswer is Misanswer.FOREIGN:
            stolen = (*present.x509_authorities, self._ours().x509_authorities[0])
            wrong = replace(present, x509_authorities=stolen, sequence=(present.sequence or 0) + 1)
            return await PublishedBundle(lambda: wrong, HINT).answer(request), False
        if self.misanswer is Misanswer.OLDER and older != present:
            return await PublishedBundle(lambda: older, HINT).answer(request), False
        return await self._published[1].answer(request), True

    async def _travel(self, sender: str, receiver: str) -> None:
        if self._network.is_lost(sender, receiver):
            await asyncio.get_running_loop().create_future()  # no answer, until the caller's deadline
        await asyncio.sleep(self._network.travel(sender, receiver))
