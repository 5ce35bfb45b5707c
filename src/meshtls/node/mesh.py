"""What the node knows: a CA per trust domain, each service's SVID, the keys it made, and the policies.

No call here waits, so what a line changes is changed before the next line is read; and a handshake takes with it, as
one frozen ``Attempt``, all that it needs from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.clock import Clock
from meshtls.node.identity import id_of
from meshtls.node.impostor import foreign_copy, foreign_svid
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid

__all__ = ["Attempt", "Mesh", "Presented"]

_MOST_KEYS = 10_000
_LONGEST_TTL = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Presented:
    """What one party of a handshake shows: its own SVID, or what stands for the certificate that it was given.

    ``note`` says which that is, where one was given. ``own``: the node issued it, to the party that presents it.
    """

    context: X509Context
    note: str = ""
    own: bool = True

    @property
    def svid(self) -> X509Svid:
        return self.context.svid


@dataclass(frozen=True, slots=True)
class Attempt:
    """A handshake as it was decided when its line was read.

    ``claimed`` is the client by its message and ``target`` the server; ``client`` and ``server`` are what they present,
    ``allow`` the clients that the server lets in.
    """

    claimed: SpiffeId
    target: SpiffeId
    client: Presented
    server: Presented
    allow: tuple[SpiffeId, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Attempts with equal keys are alike in all that the two sidecars look at."""
        leaves = (presented.svid.leaf.fingerprint(hashes.SHA256()) for presented in (self.client, self.server))
        return (self.claimed, self.target, *leaves, self.allow)


@dataclass(frozen=True, slots=True)
class _Current:
    context: X509Context
    renew_at: datetime


class Mesh:
    """The state. Its calls raise RequestError for what can't be done as asked, ConfigError where a CA has expired."""

    def __init__(self, trust_domain: TrustDomain, clock: Clock) -> None:
        self._default = trust_domain
        self._clock = clock
        self._authorities: dict[TrustDomain, Authority] = {}
        self._current: dict[SpiffeId, _Current] = {}
        self._held: dict[bytes, X509Svid] = {}
        self._policies: dict[SpiffeId, tuple[SpiffeId, ...]] = {}

    def id_of(self, service: str, namespace: str | None, trust_domain: str | None) -> SpiffeId:
        """The ID of a service; the node's own trust domain where none is given."""
        return id_of(service, namespace, TrustDomain.parse(trust_domain) if trust_domain is not None else self._default)

    def identity(self, spiffe_id: SpiffeId) -> X509Context:
        """The service's present SVID; minted on first use, and anew once half of its life is over."""
        current = self._current.get(spiffe_id)
        if current is None or self._clock.now() >= current.renew_at:
            return self.mint(spiffe_id)
        return current.context

    def mint(self, spiffe_id: SpiffeId, ttl: float | None = None) -> X509Context:
        """A new key and SVID for this service, from now on its present ones. ``ttl`` is in seconds."""
        authority, now = self._authority(spiffe_id.trust_domain), self._clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        svid = X509Svid.from_chain(authority.issue(spiffe_id, key.public_key(), ttl=_lifetime(ttl)), key)
        before = self._current.get(spiffe_id)
        generation = before.context.generation + 1 if before else 1
        context = X509Context(generation, (svid,), BundleSet([authority.bundle]))
        self._current[spiffe_id] = _Current(context, now + (svid.not_after - now) / 2)
        self._hold(svid)
        return context

    def rotate(self, spiffe_id: SpiffeId) -> tuple[X509Svid, X509Svid]:
        """The service's last SVID, also where it is due to be renewed (one is minted on first use), and a new one."""
        current = self._current.get(spiffe_id)
        last = current.context if current else self.mint(spiffe_id)
        return last.svid, self.mint(spiffe_id).svid

    def certify(self, spiffe_id: SpiffeId, csr: str, ttl: float | None) -> tuple[x509.Certificate, ...]:
        """A chain for the key of this CSR, which is the requester's: the service's present SVID stays."""
        return self._authority(spiffe_id.trust_domain).issue(spiffe_id, csr.encode(), ttl=_lifetime(ttl))

    def set_policy(self, server: SpiffeId, allow: Sequence[SpiffeId]) -> None:
        """From now on only these may reach this server."""
        self._policies[server] = tuple(dict.fromkeys(allow))

    def attempt(self, claimed: SpiffeId, server: SpiffeId, cert: str | None, server_cert: str | None = None) -> Attempt:
        """Decide now how the handshake of ``claimed`` with ``server`` will be tried."""
        trusted = self.identity(server)
        if server_cert is None:
            shown_by_server = Presented(trusted)
        else:
            shown_by_server = self._presented("server_cert", server_cert, server, trusted.bundles)
        policy = self._policies.get(server, (claimed,))
        if cert is None:
            return Attempt(claimed, server, Presented(self.identity(claimed)), shown_by_server, policy)
        shown_by_client = self._presented("cert", cert, claimed, trusted.bundles)
        # A client that shows another's certificate is not the one that it says it is: only that one is let in.
        allow = policy if shown_by_client.svid.spiffe_id == claimed else (claimed,)
        return Attempt(claimed, server, shown_by_client, shown_by_server, allow)

    def _authority(self, trust_domain: TrustDomain) -> Authority:
        if trust_domain not in self._authorities:
            self._authorities[trust_domain] = Authority.create(trust_domain, self._clock)
        return self._authorities[trust_domain]

    def _hold(self, svid: X509Svid) -> None:
        self._held[svid.leaf.fingerprint(hashes.SHA256())] = svid
        if len(self._held) > _MOST_KEYS:
            del self._held[next(iter(self._held))]

    def _presented(self, field: str, cert: str, party: SpiffeId, bundles: BundleSet) -> Presented:
        """What ``party`` presents for the certificate of this field."""
        svid, own, note = self._presentable(field, cert, party)
        return Presented(X509Context(1, (svid,), bundles), note, own)

    def _presentable(self, field: str, cert: str, party: SpiffeId) -> tuple[X509Svid, bool, str]:
        try:
            original = x509.load_pem_x509_certificates(cert.encode())[0]
            fingerprint = original.fingerprint(hashes.SHA256())
        except PARSE_ERRORS:
            note = f"`{field}` is no PEM certificate, so one of a throw-away CA was presented"
            return foreign_svid(party, self._clock), False, note
        if fingerprint in self._held:
            svid = self._held[fingerprint]
            return svid, svid.spiffe_id == party, f"`{field}` was presented, issued here to {svid.spiffe_id}"
        copy = foreign_copy(original, party)
        if copy:
            note = f"the node has no key for `{field}`, so a copy signed by a throw-away CA was presented"
            return copy, False, note
        note = f"`{field}` can't be copied, so one of a throw-away CA was presented"
        return foreign_svid(party, self._clock), False, note


def _lifetime(ttl: float | None) -> timedelta | None:
    return None if ttl is None else timedelta(seconds=min(ttl, _LONGEST_TTL.total_seconds()))
