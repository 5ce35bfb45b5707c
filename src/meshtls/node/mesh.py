"""The node's state: a CA per trust domain, each service's SVID, the keys that it generated, and the policies.

Nothing here is async, so that a message has taken effect before the next one is read. A handshake gets everything that
it needs from this state as one frozen ``Attempt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.clock import Clock
from meshtls.node.identity import id_of
from meshtls.node.impostor import foreign_copy, foreign_svid
from meshtls.node.messages import HttpCall
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.sidecar.policies import PolicySet
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid

__all__ = ["Attempt", "Mesh", "Presented"]

_MOST_KEYS = 10_000
_LONGEST_TTL = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Presented:
    """What a party of a handshake presents: its own SVID, or a stand-in for the certificate in the message.

    ``note`` describes the stand-in. ``own`` is true if the node issued the certificate to the party that presents it.
    """

    context: X509Context
    note: str = ""
    own: bool = True

    @property
    def svid(self) -> X509Svid:
        return self.context.svid


@dataclass(frozen=True, slots=True)
class Attempt:
    """A handshake to make, as decided when its message was read.

    ``claimed`` is the ID of the client in the message, ``target`` that of the server. ``client`` and ``server`` are
    what they present. ``allow`` are the clients that the server accepts, None if its ``policies`` alone decide.
    ``request`` is sent through the sidecars; ``plaintext``: the client has no sidecar.
    """

    claimed: SpiffeId
    target: SpiffeId
    client: Presented
    server: Presented
    allow: tuple[SpiffeId, ...] | None
    policies: PolicySet | None = None
    request: HttpCall | None = None
    plaintext: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """Attempts with equal keys are the same to both sidecars."""
        leaves = (presented.svid.leaf.fingerprint(hashes.SHA256()) for presented in (self.client, self.server))
        request = None if self.request is None else msgspec.json.encode(self.request)
        return (self.claimed, self.target, *leaves, self.allow, self.policies, request, self.plaintext)


@dataclass(frozen=True, slots=True)
class _Current:
    context: X509Context
    renew_at: datetime


class Mesh:
    """The state. Methods raise RequestError for an invalid request, ConfigError if a CA has expired."""

    def __init__(self, trust_domain: TrustDomain, clock: Clock) -> None:
        self._default = trust_domain
        self._clock = clock
        self._authorities: dict[TrustDomain, Authority] = {}
        self._current: dict[SpiffeId, _Current] = {}
        self._held: dict[bytes, X509Svid] = {}
        self._policies: dict[SpiffeId, tuple[tuple[SpiffeId, ...] | None, PolicySet | None]] = {}

    def id_of(self, service: str, namespace: str | None, trust_domain: str | None) -> SpiffeId:
        """The ID of a service, in the node's own trust domain unless another is given."""
        return id_of(service, namespace, TrustDomain.parse(trust_domain) if trust_domain is not None else self._default)

    def identity(self, spiffe_id: SpiffeId) -> X509Context:
        """The service's current SVID, issued on first use and renewed after half of its lifetime."""
        current = self._current.get(spiffe_id)
        if current is None or self._clock.now() >= current.renew_at:
            return self.mint(spiffe_id)
        return current.context

    def mint(self, spiffe_id: SpiffeId, ttl: float | None = None) -> X509Context:
        """Make a new key and SVID the current ones of this service. ``ttl`` is in seconds."""
        authority, now = self._authority(spiffe_id.trust_domain), self._clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        svid = X509Svid.from_chain(authority.issue(spiffe_id, key.public_key(), ttl=_lifetime(ttl)), key)
        before = self._current.get(spiffe_id)
        generation = before.context.generation + 1 if before else 1
        context = X509Context(generation, (svid,), BundleSet([authority.bundle]))
        self._current[spiffe_id] = _Current(context, now + (svid.not_after - now) / 2)
        self._held[svid.leaf.fingerprint(hashes.SHA256())] = svid
        if len(self._held) > _MOST_KEYS:
            del self._held[next(iter(self._held))]
        return context

    def rotate(self, spiffe_id: SpiffeId) -> tuple[X509Svid, X509Svid]:
        """The service's last SVID, even if its renewal is due (issued now on first use), and a new one."""
        current = self._current.get(spiffe_id)
        last = current.context if current else self.mint(spiffe_id)
        return last.svid, self.mint(spiffe_id).svid

    def certify(self, spiffe_id: SpiffeId, csr: str, ttl: float | None) -> tuple[x509.Certificate, ...]:
        """Issue a chain for the key of this CSR, which the requester holds. The service's current SVID is unchanged."""
        return self._authority(spiffe_id.trust_domain).issue(spiffe_id, csr.encode(), ttl=_lifetime(ttl))

    def set_policy(self, server: SpiffeId, allow: Sequence[SpiffeId] | None, policies: PolicySet | None = None) -> None:
        """Allow only these to connect to this server, or those that the policies allow. One of both is given."""
        self._policies[server] = None if allow is None else tuple(dict.fromkeys(allow)), policies

    def attempt(self, claimed: SpiffeId, server: SpiffeId, cert: str | None, server_cert: str | None = None) -> Attempt:
        """Decide what the handshake of ``claimed`` with ``server`` will present and allow."""
        trusted = self.identity(server)
        if server_cert is None:
            shown_by_server = Presented(trusted)
        else:
            shown_by_server = self._presented("server_cert", server_cert, server, trusted.bundles)
        allow, policies = self._policies.get(server, ((claimed,), None))
        if cert is None:
            return Attempt(claimed, server, Presented(self.identity(claimed)), shown_by_server, allow, policies)
        shown_by_client = self._presented("cert", cert, claimed, trusted.bundles)
        # A client that presents another's certificate is not the one it claims to be: allow only the claimed one.
        if shown_by_client.svid.spiffe_id != claimed:
            allow, policies = (claimed,), None
        return Attempt(claimed, server, shown_by_client, shown_by_server, allow, policies)

    def _authority(self, trust_domain: TrustDomain) -> Authority:
        if trust_domain not in self._authorities:
            self._authorities[trust_domain] = Authority.create(trust_domain, self._clock)
        return self._authorities[trust_domain]

    def _presented(self, field: str, cert: str, party: SpiffeId, bundles: BundleSet) -> Presented:
        """What ``party`` presents for the certificate in this field of the message."""
        try:
            original = x509.load_pem_x509_certificates(cert.encode())[0]
            held = self._held.get(original.fingerprint(hashes.SHA256()))
        except PARSE_ERRORS:
            svid, own = foreign_svid(party, self._clock), False
            note = f"`{field}` is not a PEM certificate, so one of a throw-away CA was presented"
        else:
            if held:
                svid, own = held, held.spiffe_id == party
                note = f"`{field}` was presented, issued here to {svid.spiffe_id}"
            elif copy := foreign_copy(original, party):
                svid, own = copy, False
                note = f"the node has no key for `{field}`, so a copy signed by a throw-away CA was presented"
            else:
                svid, own = foreign_svid(party, self._clock), False
                note = f"`{field}` can't be copied, so one of a throw-away CA was presented"
        return Presented(X509Context(1, (svid,), bundles), note, own)


def _lifetime(ttl: float | None) -> timedelta | None:
    return None if ttl is None else timedelta(seconds=min(ttl, _LONGEST_TTL.total_seconds()))
