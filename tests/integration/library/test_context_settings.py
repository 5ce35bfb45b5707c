"""The settings that a library may change on a context: those that keep its guarantees, and no others."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls import LocalIdentityError, TlsOptions, X509Context, authorize_any, client_context, server_context
from meshtls.pytest.mesh import Mesh
from meshtls.tls.rotating import RotatingContext

KEPT: dict[str, object] = {
    "verify_mode": ssl.CERT_REQUIRED,
    "check_hostname": False,
    "minimum_version": ssl.TLSVersion.TLSv1_3,
    "maximum_version": ssl.TLSVersion.MAXIMUM_SUPPORTED,
    "keylog_filename": None,
    "post_handshake_auth": False,
    "sni_callback": None,
    "sslobject_class": ssl.SSLObject,
}
WEAKER: dict[str, object] = {
    "verify_mode": ssl.CERT_NONE,
    "check_hostname": True,
    "minimum_version": ssl.TLSVersion.TLSv1_2,
    "maximum_version": ssl.TLSVersion.TLSv1_2,
    "keylog_filename": "/dev/null",
    "post_handshake_auth": True,
    "sni_callback": print,
    "sslobject_class": object,
}
REFUSED: dict[str, Callable[[RotatingContext], object]] = {
    "load_cert_chain: this context's identity comes from its source": lambda c: c.load_cert_chain("chain.pem"),
    "load_verify_locations: this context's trust bundles come from its source": lambda c: c.load_verify_locations(
        "ca.pem"
    ),
    "load_default_certs: this context's trust bundles come from its source": lambda c: c.load_default_certs(),
    "set_default_verify_paths: this context's trust bundles come from its source": lambda c: (
        c.set_default_verify_paths()
    ),
    "set_servername_callback: SNI must not choose another context": lambda c: c.set_servername_callback(None),
    "set_ciphers: TLS 1.3 has none to choose from, and for TLS 1.2 the AEAD suites are set": lambda c: c.set_ciphers(
        "ALL"
    ),
    "load_dh_params: this context's key exchange is fixed": lambda c: c.load_dh_params("dh.pem"),
    "set_ecdh_curve: this context's key exchange is fixed": lambda c: c.set_ecdh_curve("prime256v1"),
}


@pytest.fixture(params=["client", "server"])
def context(request: pytest.FixtureRequest, mesh: Mesh) -> RotatingContext:
    make = client_context if request.param == "client" else server_context
    return make(mesh.source("web"), authorize_any())


@pytest.mark.parametrize("name", KEPT)
def test_a_context_setting_reads_the_same_for_every_connection_and_may_be_repeated(
    context: RotatingContext, name: str
) -> None:
    assert getattr(context, name) == KEPT[name]
    setattr(context, name, KEPT[name])


@pytest.mark.parametrize("name", WEAKER)
def test_a_context_setting_that_weakens_or_has_no_effect_is_refused(context: RotatingContext, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = .*: this context keeps ") as refused:
        setattr(context, name, WEAKER[name])
    assert str(refused.value).endswith(
        "; who is trusted comes from its source and its authorizer,"
        " and the rest is chosen with TlsOptions when it is made"
    )
    assert getattr(context, name) == KEPT[name]


def test_context_options_can_be_repeated_and_not_removed(context: RotatingContext) -> None:
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    with pytest.raises(ValueError, match="^options = "):
        context.options &= ~ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize("message", REFUSED)
def test_a_call_that_would_set_identity_or_trust_is_refused(context: RotatingContext, message: str) -> None:
    with pytest.raises(TypeError) as refused:
        REFUSED[message](context)
    assert str(refused.value) == message


def test_the_contexts_store_shows_the_bundles_authorities_and_our_intermediate(
    context: RotatingContext, mesh: Mesh
) -> None:
    assert context.cert_store_stats()["x509_ca"] == 2
    intermediate = context.contexts.source.snapshot().svid.chain[1].public_bytes(Encoding.DER)
    assert set(context.get_ca_certs(binary_form=True)) == {mesh.bundle.to_der(), intermediate}


def test_repeating_the_same_alpn_does_not_rebuild_the_context(context: RotatingContext) -> None:
    context.set_alpn_protocols(["http/1.1"])
    first = context.contexts.current()
    context.set_alpn_protocols(["http/1.1"])
    assert context.contexts.current() is first
    context.set_alpn_protocols(["h2"])
    assert context.contexts.current() is not first


def test_the_other_sides_connections_are_refused(context: RotatingContext) -> None:
    wanted = "server" if context.contexts.server_side else "client"
    with pytest.raises(ValueError, match=f"wanted a {wanted} connection of this context"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=wanted == "client")


def test_a_context_whose_hooks_are_bypassed_accepts_nobody(mesh: Mesh) -> None:
    bypassed = client_context(mesh.source("client"), authorize_any())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext.wrap_bio(bypassed, back, there)
    server = server_context(mesh.source("server"), authorize_any()).wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate|self.signed"):
        client.do_handshake()


def test_the_peers_certificate_can_be_read_of_an_accepted_connection(mesh: Mesh) -> None:
    server = server_context(mesh.source("server"), authorize_any(), options=TlsOptions())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(mesh.source("client"), authorize_any()).wrap_bio(back, there)
    accepted = server.wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        accepted.do_handshake()
    client.do_handshake()
    accepted.do_handshake()
    certificate = accepted.getpeercert() or {}
    assert certificate["subjectAltName"] == (("URI", "spiffe://example.org/client"),)


class Ended:
    """A source whose last SVID has expired without a newer one."""

    def snapshot(self) -> X509Context:
        raise LocalIdentityError("our SVID has expired")


@pytest.mark.parametrize("caught", [LocalIdentityError, ssl.SSLError])
@pytest.mark.parametrize("use", ["do_handshake", "read", "write"])
def test_without_an_identity_a_connection_fails_as_soon_as_it_is_used(caught: type[Exception], use: str) -> None:
    context = client_context(Ended(), authorize_any())
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(caught, match="^our SVID has expired$"):
        getattr(connection, use)(*([b"data"] if use == "write" else []))
    assert not outgoing.pending


def test_without_an_identity_no_socket_is_wrapped() -> None:
    with socket.socket() as plain, pytest.raises(LocalIdentityError, match="our SVID has expired"):
        client_context(Ended(), authorize_any()).wrap_socket(plain)
