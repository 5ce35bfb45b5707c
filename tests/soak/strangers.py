"""Strangers: complete clients with the wrong credentials, or none. No byte of theirs may be echoed.

Each opens with a unique line and looks for that line in the response. ``probe`` is the same code with a good identity,
which shows that an admitted stranger would be detected.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import hpack
from cryptography.hazmat.primitives.asymmetric import ec

from bench.raw_http2 import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame
from meshtls.clock import SystemClock
from meshtls.node.impostor import foreign_svid
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import X509Svid
from meshtls.tls.keys import load_svid
from tests.soak.mesh import ALLOWED, Mesh, id_of
from tests.soak.stopping import Load
from tests.soak.violations import Violations

__all__ = ["Credentials", "StrangerLoad", "new_key", "probe"]

_PAUSES_S = (0.1, 0.4)
_TIMEOUT_S = 30.0
_H2 = "h2"


@dataclass(slots=True)
class Credentials:
    """The strangers' credentials.

    - ``outsider``: a source of the present SVID of an identity that no policy allows.
    - ``expired``: a real but expired SVID of an allowed identity.
    """

    outsider: Callable[[], X509Svid]
    expired: X509Svid

    def of(self, kind: str) -> X509Svid | None:
        return _KINDS[kind](self)


_KINDS: dict[str, Callable[[Credentials], X509Svid | None]] = {
    "allowed name of a foreign CA": lambda _: foreign_svid(id_of("web"), SystemClock()),
    "foreign trust domain": lambda _: foreign_svid(SpiffeId.parse("spiffe://elsewhere.test/web"), SystemClock()),
    "identity that is not allowed": lambda credentials: credentials.outsider(),
    "expired SVID": lambda credentials: credentials.expired,
    "no certificate": lambda _: None,
}
_PLAINTEXT = "plaintext"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _context(svid: X509Svid | None, alpn: str | None) -> ssl.SSLContext:
    """A client context that presents this and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if svid is not None:
        load_svid(context, svid)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


async def probe(address: tuple[str, int], line: bytes, tls: ssl.SSLContext | None, *, alpn: str | None = None) -> bool:
    """Whether this listener echoes this line; the connection is closed as soon as it does."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address, ssl=tls)
            try:
                writer.write(_connect(line, address) if alpn == _H2 else line)
                heard = b""
                while line not in heard and (more := await reader.read(1 << 14)):
                    heard += more
            finally:
                writer.transport.abort()
    except OSError:  # any kind of refusal; TimeoutError is an OSError
        return False
    return line in heard


def _connect(line: bytes, address: tuple[str, int]) -> bytes:
    """A tunnel stream that sends this."""
    block = hpack.Encoder().encode([(":method", "CONNECT"), (":authority", f"{address[0]}:{address[1]}")])
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, bytes(block)) + frame(DATA, 0, 1, line)


@dataclass(slots=True)
class StrangerLoad:
    """``refused`` counts by kind."""

    mesh: Mesh
    credentials: Credentials
    violations: Violations
    load: Load
    refused: Counter[str] = field(default_factory=Counter)
    _count: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        return *_KINDS, _PLAINTEXT

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        for kind in self.kinds:
            tasks.create_task(self._try_again_and_again(kind, self.load.chances(kind)))

    async def _try_again_and_again(self, kind: str, chances: random.Random) -> None:
        listeners = list(ALLOWED)
        while self.load.going:
            listener = chances.choice(listeners)
            await self.attempt(kind, listener, self.mesh.inbound(listener), as_tunnel=chances.random() < 0.5)
            await self.load.pause(chances.uniform(*_PAUSES_S))

    async def attempt(
        self, kind: str, listener: tuple[str, bool], address: tuple[str, int], *, as_tunnel: bool
    ) -> None:
        """One stranger of this kind, through a tunnel if the listener accepts one."""
        self._count += 1
        line = f"stranger {self._count} {kind}\n".encode()
        alpn = _H2 if listener[1] and as_tunnel and kind != _PLAINTEXT else None
        tls = None if kind == _PLAINTEXT else _context(self.credentials.of(kind), alpn)
        if await probe(address, line, tls, alpn=alpn):
            where = f"{listener[0]}'s {'tunnel' if listener[1] else 'plain'} listener"
            self.violations.add("wrong admission", f"{kind}: {where} echoed {line!r}")
        else:
            self.refused[kind] += 1

    async def check_twin(self, svid: X509Svid, line: bytes, listener: tuple[str, bool], alpn: str | None) -> None:
        """Check that the same client with an allowed identity is served: otherwise the refusals would prove nothing."""
        if not await probe(self.mesh.inbound(listener), line, _context(svid, alpn), alpn=alpn):
            self.violations.add("friendly failure", f"the strangers' client with a good identity: {line!r} was lost")
