"""The listeners under attack: each peer's, newly started, with the data for a friendly client and a stranger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.certificates import write_private
from bench.cli import Found
from bench.identity.site import Place, opened_server
from bench.load import Generator
from bench.pair import started_side
from bench.peers.base import Certs, Ports, Program, Side, SideCerts, Site
from bench.peers.envoy import Envoy
from bench.peers.go_spiffe import GoSpiffe
from bench.peers.meshtls import Meshtls
from bench.peers.nginx import Nginx
from bench.peers.spire import Spire
from bench.processes import free_ports
from bench.strangers.friend import Friend
from meshtls.identity.request import new_key, request_for
from meshtls.proto import server_pb
from meshtls.workload.x509_source import X509Source

__all__ = ["Calls", "Claims", "Contender", "Ground", "Listener", "Target", "all_contenders"]


class Listener(Enum):
    """The kind of listener that a stranger needs."""

    MTLS = "mutual TLS"
    HTTP2 = "HTTP/2 without client certificates"
    TOKEN = "join tokens"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Claims:
    """A stranger's knowledge for making a chain: an ID that the server allows, its CAs, and a captured chain."""

    spiffe_id: str
    authorities: Sequence[x509.Certificate]
    captured: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Calls:
    """Paths at an HTTP/2 listener.

    - ``whole``: a request is sent to its end before its reset, since a proxy forwards only those.
    - ``guess``: makes the message for ``message`` from a token.
    """

    reset: str
    message: str
    whole: bool = False
    guess: Callable[[str], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A listener, ready once ``friend`` is served; ``pids`` are the processes whose cost counts."""

    port: int
    pids: Sequence[int]
    friend: Friend
    claims: Claims | None = None
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """The place of one listener; ``directory`` is empty, for this listener alone, and removed afterwards."""

    directory: Path
    certs: Certs
    generator: Generator

    def site(self) -> Site:
        return Site(Ports(*free_ports(3)), self.certs, self.directory)


Opener = Callable[[Ground], AbstractAsyncContextManager[Target]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer and its listeners."""

    peer: Found
    openers: Mapping[Listener, Opener]

    @property
    def name(self) -> str:
        return self.peer.name


def all_contenders(root: Path) -> list[Contender]:
    """All contenders; ``root`` is the directory for Envoy's virtual environment."""
    envoy, nginx, go, spire = Envoy(root / ".venv-envoy"), Nginx(), GoSpiffe(), Spire()
    health = Calls("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check")
    page = Calls("/", "/", whole=True)
    attest = "/spire.api.server.agent.v1.Agent/AttestAgent"
    spire_calls = Calls(attest, attest, guess=_spire_guess)
    return [
        Contender(Meshtls(), {Listener.MTLS: _sidecar, Listener.HTTP2: _attestation, Listener.TOKEN: _attestation}),
        Contender(
            envoy, {Listener.MTLS: _mtls(envoy.mtls_programs), Listener.HTTP2: _http2(envoy.http2_programs, page)}
        ),
        Contender(
            nginx, {Listener.MTLS: _mtls(nginx.mtls_programs), Listener.HTTP2: _http2(nginx.http2_programs, page)}
        ),
        Contender(go, {Listener.MTLS: _mtls(go.mtls_programs), Listener.HTTP2: _http2(go.http2_programs, health)}),
        Contender(
            spire,
            {
                one: _http2(spire.token_programs, spire_calls, "/spire.api.server.bundle.v1.Bundle/GetBundle")
                for one in (Listener.HTTP2, Listener.TOKEN)
            },
        ),
    ]


def _mtls(programs: Callable[[Site], Sequence[Program]]) -> Opener:
    @asynccontextmanager
    async def opened(ground: Ground) -> AsyncIterator[Target]:
        site = ground.site()
        with (
            ground.generator.server(site.ports.app),
            started_side(Side.SERVER, programs(site), ground.directory) as pids,
        ):
            yield _mutual(site, pids, site.other(Side.SERVER), ground.certs.roots)

    return opened


@asynccontextmanager
async def _sidecar(ground: Ground) -> AsyncIterator[Target]:
    """A sidecar whose CA identifies the friendly client, like the sidecar, by the uid."""
    async with _mtls(Meshtls().mtls_programs)(ground) as target:
        async with X509Source(f"unix://{ground.directory}/ca.sock") as source:
            context = source.snapshot()
        svid = context.svid
        certs = replace(
            ground.certs.sides[Side.CLIENT],
            spiffe_id=str(svid.spiffe_id),
            chain=ground.directory / "friend-chain.pem",
            key=ground.directory / "friend-key.pem",
        )
        certs.chain.write_bytes(svid.chain_pem())
        write_private(certs.key, svid.key_pem())
        roots = ground.directory / "friend-roots.pem"
        roots.write_bytes(context.bundles[svid.spiffe_id.trust_domain].to_pem())
        yield replace(target, friend=_friend(target.port, certs, roots), claims=_claims(certs, roots))


def _mutual(site: Site, pids: Sequence[int], friend: SideCerts, roots: Path) -> Target:
    port = site.listen(Side.SERVER)
    return Target(port, pids, _friend(port, friend, roots), _claims(friend, roots))


def _friend(port: int, certs: SideCerts, roots: Path) -> Friend:
    return Friend(port, chain=str(certs.chain), key=str(certs.key), roots=str(roots))


def _claims(certs: SideCerts, roots: Path) -> Claims:
    chain = x509.load_pem_x509_certificates(certs.chain.read_bytes())
    known = [*x509.load_pem_x509_certificates(roots.read_bytes()), *chain[1:]]
    return Claims(certs.spiffe_id, known, [one.public_bytes(Encoding.DER) for one in chain])


def _http2(programs: Callable[[Site], Sequence[Program]], calls: Calls, friendly: str | None = None) -> Opener:
    @asynccontextmanager
    async def opened(ground: Ground) -> AsyncIterator[Target]:
        site = ground.site()
        port = site.listen(Side.SERVER)
        with started_side(Side.SERVER, programs(site), ground.directory) as pids:
            yield Target(port, pids, Friend(port, path=friendly or calls.message), calls=calls)

    return opened


@asynccontextmanager
async def _attestation(ground: Ground) -> AsyncIterator[Target]:
    bundle = "/meshtls.server.v1.Attestation/GetBundle"
    calls = Calls(bundle, "/meshtls.server.v1.Attestation/AttestAgent", guess=_guess)
    async with opened_server(Place.make(ground.directory / "server")) as server:
        port = server.place.attest_port
        yield Target(port, [server.pid], Friend(port, path=bundle), calls=calls)


def _guess(token: str) -> bytes:
    return server_pb.AttestRequest(csr=request_for(new_key()), join_token=token).SerializeToString()


def _spire_guess(token: str) -> bytes:
    """AttestAgentRequest of SPIRE's API: params { data { type, payload }, params { csr } }."""
    data = _field(1, b"join_token") + _field(2, token.encode())
    return _field(1, _field(1, data) + _field(2, _field(1, request_for(new_key()))))


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    length = len(value)
    size = bytes((length,)) if length < 0x80 else bytes((length & 0x7F | 0x80, length >> 7))
    return bytes((number << 3 | 2,)) + size + value
