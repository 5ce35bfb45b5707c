"""The fixture ``mesh``: valid and invalid identities for tests, all of them really signed."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.ca.profile import leaf_certificate
from meshtls.clock import SystemClock
from meshtls.errors import RequestError
from meshtls.integrations.blocking import blocking
from meshtls.policy.authorizer import authorize_any
from meshtls.pytest.handshake import handshake
from meshtls.pytest.source import MeshSource
from meshtls.pytest.workload_api import MeshWorkloadApi
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509ContextSource
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import X509Svid
from meshtls.tls.rotating import client_context

__all__ = ["Mesh"]

_HOUR = timedelta(hours=1)


class Mesh:
    """A CA in memory. A ``name`` may also be a path such as ``/ns/a/sa/b`` or a whole SPIFFE ID.

    Async code may use it as it is: sources don't block, and Workload APIs have an address.
    """

    def __init__(self, trust_domain: str = "example.org") -> None:
        self.trust_domain = TrustDomain.parse(trust_domain)
        self._clock = SystemClock()
        self._authority = Authority.create(self.trust_domain, self._clock)
        self._foreign: Authority | None = None
        self._jwt_key = ec.generate_private_key(ec.SECP256R1())
        self._open = ExitStack()

    def id(self, name: SpiffeId | str) -> SpiffeId:
        """The ID of a name: ``spiffe://example.org/service-a`` for ``service-a``. Raises InvalidSpiffeIdError."""
        if isinstance(name, SpiffeId):
            return name
        return SpiffeId.parse(name) if "://" in name else SpiffeId(self.trust_domain, "/" + name.removeprefix("/"))

    @property
    def bundle(self) -> TrustBundle:
        """The bundle that verifies every valid SVID of this mesh."""
        return self._authority.bundle

    def source(
        self,
        name: SpiffeId | str,
        *,
        ttl: timedelta = _HOUR,
        dns_names: Iterable[str] = (),
        trusts: Iterable[TrustBundle] = (),
    ) -> MeshSource:
        """A valid identity, which lasts for ``ttl`` and is renewed by ``rotate``.

        ``trusts`` are the bundles of other trust domains. Raises RequestError for an ID of another trust domain.
        """
        spiffe_id, names = self.id(name), tuple(dns_names)
        return MeshSource(lambda: _issued(self._authority, spiffe_id, ttl, names), BundleSet([*trusts, self.bundle]))

    def foreign(self, name: SpiffeId | str = "foreign") -> MeshSource:
        """An identity of this trust domain signed by a foreign CA. It trusts our CA, so that only its peer refuses."""
        spiffe_id = self.id(name)
        if self._foreign is None:
            self._foreign = Authority.create(self.trust_domain, self._clock)
        authority = self._foreign
        return MeshSource(lambda: _issued(authority, spiffe_id, _HOUR, ()), BundleSet([self.bundle]))

    def expired(self, name: SpiffeId | str) -> MeshSource:
        """An identity that our CA signed and that expired an hour ago; it is presented nevertheless."""
        spiffe_id = self.id(name)

        def issue() -> X509Svid:
            if not spiffe_id.member_of(self.trust_domain):
                raise RequestError(f"{spiffe_id}: this mesh issues for trust domain {self.trust_domain} only")
            key, signer = ec.generate_private_key(ec.SECP256R1()), self._authority.intermediate
            then = self._clock.now() - 2 * _HOUR
            leaf = leaf_certificate(spiffe_id, key.public_key(), (), signer, then, _HOUR)
            return X509Svid.from_chain((leaf, signer.certificate), key)

        return MeshSource(issue, BundleSet([self.bundle]))

    def handshake(self, client: X509ContextSource | ssl.SSLContext, server: ssl.SSLContext) -> VerifiedPeer:
        """Make a handshake in memory, and return the client as the server verified and authorized it.

        ``client`` is a context, or a source, which then accepts any server. Raises the PeerError of the side that
        refused, and LocalIdentityError if a side has no identity.
        """
        if not isinstance(client, ssl.SSLContext):
            client = client_context(client, authorize_any())
        return handshake(client, server)

    def workload_api(self, name: SpiffeId | str, *, dns_names: Iterable[str] = ()) -> MeshWorkloadApi:
        """A Workload API on a temporary socket, which gives the identity ``name`` to every process of this user.

        It runs until the end of the test, or of its ``with`` block. Each call starts another one, for a program with
        another identity. Raises ConfigError if it can't be served on this machine.
        """
        serving = self._open.enter_context(ExitStack())
        directory = Path(serving.enter_context(tempfile.TemporaryDirectory(prefix="meshtls-")))
        api = MeshWorkloadApi(self._authority, self._jwt_key, self.id(name), directory / "api.sock", tuple(dns_names))
        api.stop = serving.close
        return serving.enter_context(blocking(api, after_fork=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __repr__(self) -> str:
        return f"<Mesh {self.trust_domain}>"


def _issued(authority: Authority, spiffe_id: SpiffeId, ttl: timedelta, dns_names: tuple[str, ...]) -> X509Svid:
    key = ec.generate_private_key(ec.SECP256R1())
    return X509Svid.from_chain(authority.issue(spiffe_id, key.public_key(), ttl=ttl, dns_names=dns_names), key)
