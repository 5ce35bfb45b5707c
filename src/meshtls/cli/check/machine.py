"""What mutual TLS needs of a machine: OpenSSL's features, and descriptors."""

from __future__ import annotations

import platform
import resource
import ssl

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.cli.check.finding import Checks, Claim, Finding, failed, passed, warning
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.identity.request import new_key
from meshtls.policy.authorizer import authorize_any
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.tls.context import TlsOptions
from meshtls.tls.failures import peer_error
from meshtls.tls.rotating import client_context, server_context

__all__ = ["DESCRIPTORS", "descriptors", "machine_checks"]

#: What a sidecar with the default limits may have open: two for each connection, and what a process has beside them.
DESCRIPTORS = 4096
_OLDEST_OPENSSL = (3, 0)
_TLS = Claim(
    "TLS 1.3 with an ECDSA certificate and X25519 works", "TLS 1.3 with an ECDSA certificate and X25519 does not work"
)
_UNTRIED = _TLS._replace(broken="TLS 1.3 with an ECDSA certificate and X25519 could not be tried")
_ADVICE = "take a newer Python, linked with an OpenSSL that is not restricted; see openssl.cnf"
_DESCRIPTORS = Claim("a process may open enough descriptors", "a process may open too few descriptors")
#: Flights of a handshake between two sides in memory, generously.
_ROUNDS = 10


async def machine_checks(wanted_descriptors: int = DESCRIPTORS) -> Checks:
    """Checks of this process's machine and limits."""
    versions = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
    recent = Claim("OpenSSL is 3.0 or newer", "OpenSSL is older than 3.0")
    if ssl.OPENSSL_VERSION_INFO < _OLDEST_OPENSSL:
        yield failed(recent, versions, "take a Python that is linked with OpenSSL 3")
    else:
        yield passed(recent, versions)
    yield _handshake()
    yield descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0], wanted_descriptors)


def descriptors(limit: int, wanted: int) -> Finding:
    """Whether the process may open enough files. ``limit`` is its own, or RLIM_INFINITY."""
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return passed(_DESCRIPTORS, f"{limit}" if limit != resource.RLIM_INFINITY else "unlimited")
    return warning(
        _DESCRIPTORS,
        f"the limit is {limit}, and a sidecar at its limits uses {wanted}",
        f"raise it: `ulimit -n {wanted}`, or LimitNOFILE={wanted} in the systemd unit",
    )


def _handshake() -> Finding:
    """A real handshake in memory, with the contexts of the library and a CA that is thrown away."""
    try:
        authority = Authority.create(TrustDomain("check.invalid"), SystemClock())
        key = new_key()
        spiffe_id = SpiffeId(authority.bundle.trust_domain, "/check")
        svid = X509Svid.from_chain(authority.issue(spiffe_id, key.public_key()), key)
        source = ConstantSource(X509Context(1, (svid,), BundleSet([authority.bundle])))
        options = TlsOptions(group="X25519")
        sides = []
        pipes = [ssl.MemoryBIO(), ssl.MemoryBIO()]
        for make, server_side in ((client_context, False), (server_context, True)):
            context = make(source, authorize_any(), options=options)
            sides.append(context.wrap_bio(pipes[server_side], pipes[not server_side], server_side=server_side))
        for _ in range(_ROUNDS):
            for side in sides:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        version = sides[1].version() or "no version"
    except ConfigError as error:
        return warning(_UNTRIED, str(error))  # it can't be tried alone, and works as one of several groups
    except LocalIdentityError as error:
        return failed(_TLS, str(error), _ADVICE)
    except ssl.SSLError as error:
        return failed(_TLS, str(peer_error(error)), _ADVICE)
    if version != "TLSv1.3":
        return failed(_TLS, f"wanted TLSv1.3, got {version}", "look for MinProtocol or MaxProtocol in openssl.cnf")
    return passed(_TLS)
