"""Breakages by which a connection fails: what a caller presents or sends, who it reaches, and what a policy says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import Any

from meshtls.observe.events import Outcome
from meshtls.svid.x509 import X509Svid
from tests.e2e.day_in_the_life.breakage import Breakage
from tests.e2e.day_in_the_life.callers import call_as, minted, plaintext_call, tls_connection
from tests.e2e.day_in_the_life.mesh import DB, OLD, PARTNER, WEB, Mesh, reloaded
from tests.e2e.day_in_the_life.programs import until
from tests.support.authority import Leaf, make_authority, mint_raw, svid_for

__all__ = ["CONNECTIONS"]

_PEER = f"spiffe://{PARTNER}/web"
_HOUR = 3600.0


def _called(call: Callable[[Mesh], object]) -> Callable[[Mesh], AbstractContextManager[None]]:
    """A breakage that is one bad call, and over with it."""

    @contextmanager
    def broken(mesh: Mesh) -> Iterator[None]:
        call(mesh)
        yield

    return broken


def _presented(svid: Callable[[Mesh], X509Svid]) -> Callable[[Mesh], AbstractContextManager[None]]:
    """A call with this SVID, which the twin, the partner's good one, makes as well."""

    def call(mesh: Mesh) -> None:
        good = svid_for(mesh.partners[PARTNER], "/web")
        assert call_as(mesh, good).startswith(b"HTTP/1.1 200 "), "a good SVID is refused, too"
        assert call_as(mesh, svid(mesh)) == b""

    return _called(call)


def _of_partner(**changed: Any) -> Callable[[Mesh], AbstractContextManager[None]]:
    """A call with a certificate of the partner that breaks one rule."""
    leaf = Leaf(**({"uris": (_PEER,)} | changed))
    return _presented(lambda mesh: mint_raw(mesh.partners[PARTNER], leaf))


def _revoked(mesh: Mesh) -> X509Svid:
    svid = minted(mesh, WEB)
    assert call_as(mesh, svid).startswith(b"HTTP/1.1 200 ")
    mesh.told("revoke", "--serial", f"{svid.leaf.serial_number:032x}")
    until(lambda: call_as(mesh, svid) == b"", lambda: "a revoked SVID is accepted")
    return svid


@contextmanager
def _denied(mesh: Mesh) -> Iterator[None]:
    with mesh.policy("deny", _DENY):
        until(
            lambda: not mesh.call().startswith("200 ") and mesh.call("http").startswith("403 "),
            lambda: f"the policy is not in use: {mesh.call('http')}",
        )
        yield


_DENY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-web, namespace: default}
spec:
  action: DENY
  rules:
    - from:
        - source: {principals: [example.org/web]}
"""


@contextmanager
def _app_down(mesh: Mesh) -> Iterator[None]:
    mesh.app.stop()
    mesh.call()
    yield
    mesh.app.start()


@contextmanager
def _another_protocol(mesh: Mesh) -> Iterator[None]:
    """In the app's place listens a program that does not speak HTTP."""
    mesh.app.stop()
    with _answering(mesh.port("app"), b"220 mail.example.org ESMTP\r\n"):
        mesh.call("http")
        yield
    mesh.app.start()


@contextmanager
def _answering(address: tuple[str, int], answer: bytes) -> Iterator[None]:
    """One connection is answered so."""
    with socket.create_server(address) as listener:

        def serve() -> None:
            with suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1 << 14)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def _wrong_peer(mesh: Mesh) -> Iterator[None]:
    first, second = mesh.values["web"]["outbound"]
    with reloaded(mesh, "web", outbound=[first | {"peer": "spiffe://example.org/other"}, second]):
        mesh.call()
        yield


@contextmanager
def _sidecar_down(mesh: Mesh) -> Iterator[None]:
    mesh.db.stop()
    mesh.call()
    yield
    mesh.db.start()


@contextmanager
def _silent(mesh: Mesh) -> Iterator[None]:
    """A caller that begins a ClientHello and does not finish it."""
    with reloaded(mesh, "db", limits={"handshake_timeout": "500ms"}):
        with closing(socket.create_connection(mesh.port("db tcp"))) as sock, suppress(OSError):
            sock.sendall(b"\x16\x03\x01")
            sock.recv(1 << 14)
        yield


@contextmanager
def _crowded(mesh: Mesh) -> Iterator[None]:
    """A connection more than the limit."""
    svid = minted(mesh, WEB)
    with reloaded(mesh, "db", limits={"connections": 1}), ExitStack() as stack:
        held = stack.enter_context(tls_connection(mesh, svid))
        held.sendall(b"GET /")
        until(lambda: mesh.live("db") == 1, lambda: f"{mesh.live('db')} live connections")
        assert call_as(mesh, svid) == b""
        yield


CONNECTIONS = (
    Breakage(
        name="a caller in plaintext",
        symptom="a program connects to a sidecar's inbound port without TLS, and is cut off",
        cause="wanted a TLS ClientHello, got plaintext that starts with …; send it through a sidecar",
        at="db",
        broken=_called(plaintext_call),
        outcome=Outcome.PLAINTEXT_REFUSED,
    ),
    Breakage(
        name="a client without a certificate",
        symptom="curl, a browser or a load balancer speaks TLS to an inbound port, and is refused",
        cause="the peer presented no certificate; mutual TLS wants an X509-SVID from both sides",
        at="db",
        broken=_called(lambda mesh: call_as(mesh, None)),
        outcome=Outcome.NO_CLIENT_CERTIFICATE,
    ),
    Breakage(
        name="a client of TLS 1.2",
        symptom="an old client can't connect",
        cause="no TLS version in common with the peer",
        at="db",
        broken=_called(lambda mesh: call_as(mesh, minted(mesh, WEB), newest=ssl.TLSVersion.TLSv1_2)),
        outcome=Outcome.HANDSHAKE_FAILED,
    ),
    Breakage(
        name="a peer of a foreign CA",
        symptom="after a server was set up anew, workloads of before are refused",
        cause="peer spiffe://example.org/web: no path to a root of the bundle of trust domain example.org …"
        ": none of them is its issuer",
        at="db",
        broken=_presented(lambda mesh: svid_for(make_authority("example.org"), "/web")),
        outcome=Outcome.PEER_UNTRUSTED,
    ),
    Breakage(
        name="a peer of an unknown trust domain",
        symptom="a workload of another trust domain is refused",
        cause="peer spiffe://else.test/web: no bundle for trust domain else.test",
        at="db",
        broken=_presented(lambda mesh: svid_for(make_authority("else.test"), "/web")),
        outcome=Outcome.NO_BUNDLE,
    ),
    Breakage(
        name="a peer with an expired SVID",
        symptom="a workload that was not renewed is refused",
        cause=f"peer {_PEER}: its certificate … expired at …; our clock says …",
        at="db",
        broken=_of_partner(starts_in=-2 * _HOUR, ends_in=-_HOUR),
        outcome=Outcome.PEER_CERT_NOT_CURRENT,
    ),
    Breakage(
        name="a peer of a CA whose clock is ahead",
        symptom="a new SVID is refused, and is accepted some time later",
        cause=f"peer {_PEER}: its certificate … is not valid before …; our clock says …",
        at="db",
        broken=_of_partner(starts_in=_HOUR, ends_in=2 * _HOUR),
        outcome=Outcome.PEER_CERT_NOT_CURRENT,
    ),
    Breakage(
        name="a certificate that is no X509-SVID",
        symptom="a peer with a certificate of another tool is refused",
        cause="is no X509-SVID: wanted exactly one URI SAN, got 2",
        at="db",
        broken=_of_partner(uris=(_PEER, f"{_PEER}2")),
        outcome=Outcome.PEER_CERT_INVALID,
    ),
    Breakage(
        name="an expired root",
        symptom="from one moment on no peer of a trust domain is accepted any more",
        cause=f"no path to a root of the bundle of trust domain {OLD} …: CA certificate … expired at …; our clock says",
        at="db",
        broken=_presented(lambda mesh: mint_raw(mesh.partners[OLD], Leaf(uris=(f"spiffe://{OLD}/web",)))),
        outcome=Outcome.PEER_UNTRUSTED,
    ),
    Breakage(
        name="a revoked SVID",
        symptom="a workload is refused since its SVID was revoked",
        cause=f"peer {WEB}: certificate … was revoked by its issuer",
        at="db",
        broken=_presented(_revoked),
        outcome=Outcome.PEER_REVOKED,
    ),
    Breakage(
        name="a caller that no policy allows",
        symptom="a workload of this mesh is refused",
        cause="denied: no ALLOW rule matches. The peer is example.org/outsider, on port …. The nearest is"
        " ns[default]-policy[callers]-rule[0] …, which fails in source.principals",
        at="db",
        broken=_presented(lambda mesh: minted(mesh, "spiffe://example.org/outsider")),
        outcome=Outcome.POLICY_DENIED,
    ),
    Breakage(
        name="a policy that denies",
        symptom="a caller is refused since a policy was added",
        cause="denied by ns[default]-policy[no-web]-rule[0]",
        at="db",
        broken=_denied,
        outcome=Outcome.POLICY_DENIED,
    ),
    Breakage(
        name="a server of another identity",
        symptom="every call through one outbound listener fails",
        cause=f"the server is {DB}; expected: spiffe://example.org/other",
        at="web",
        broken=_wrong_peer,
        outcome=Outcome.POLICY_DENIED,
    ),
    Breakage(
        name="an app that is down",
        symptom="calls are reset, though both sidecars run",
        cause="127.0.0.1:… can't be reached: Connection refused",
        at="db",
        broken=_app_down,
        outcome=Outcome.CONNECT_FAILED,
    ),
    Breakage(
        name="a far sidecar that is down",
        symptom="all calls to one service fail at once",
        cause="127.0.0.1:… can't be reached: Connection refused",
        at="web",
        broken=_sidecar_down,
        outcome=Outcome.CONNECT_FAILED,
    ),
    Breakage(
        name="an app that does not speak HTTP",
        symptom="a listener with protocol: http answers 502",
        cause="the app did not answer with HTTP/1.1: let the listener's `app` be a port where it serves HTTP",
        at="db",
        broken=_another_protocol,
        outcome=Outcome.APP_FAILED,
    ),
    Breakage(
        name="a request that breaks a rule of HTTP",
        symptom="a client is answered with 400 before the app sees its request",
        cause="wanted one host at most, got several",
        at="db",
        broken=_called(
            lambda mesh: call_as(
                mesh, minted(mesh, WEB), "db http", request=b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
            )
        ),
        outcome=Outcome.REQUEST_REFUSED,
    ),
    Breakage(
        name="a caller that does not finish its handshake",
        symptom="a connection hangs, and is closed after some seconds",
        cause="the peer did not finish the handshake within 0.5 s",
        at="db",
        broken=_silent,
        outcome=Outcome.HANDSHAKE_TIMEOUT,
    ),
    Breakage(
        name="a connection more than the limit",
        symptom="under load some connections are refused",
        cause="connection limit reached (limits.connections=1)",
        at="db",
        broken=_crowded,
        outcome=Outcome.CONNECTION_LIMIT,
    ),
)
