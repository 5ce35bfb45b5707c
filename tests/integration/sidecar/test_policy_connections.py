"""Connections that policies judge: by peer, address and name, with mutual TLS, plaintext and TLS of the app's own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import msgspec
import pytest

from meshtls.address import Address
from meshtls.policy.decision import Decision
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.request import Request
from meshtls.sidecar.config import load_config
from meshtls.sidecar.settings import Mode, SidecarConfig
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.governed import governed, policies, with_policies
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    OTHER,
    OURS,
    A,
    B,
    Node,
    an_app,
    as_a,
    connected,
    echoed,
    patient,
    rest,
    running,
    side_a,
)
from tests.integration.sidecar.raw_peer import RawPeer
from tests.support.authority import context_for
from tests.support.tls import engine_of
from tests.support.waiting import SECONDS, until

PATIENT = patient(detect_timeout=SECONDS)


def policy(rules: str, action: str = "ALLOW", name: str = "p") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
spec: {{action: {action}, rules: [{rules}]}}
"""


FROM_A = "{from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]}"
FROM_OTHER = "{from: [{source: {principals: [example.org/ns/default/sa/other]}}]}"
FROM_HERE = "{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}"
FROM_ELSEWHERE = "{from: [{source: {ipBlocks: [192.0.2.0/24]}}]}"
ANYBODY = "{}"
GET = "{to: [{operation: {methods: [GET]}}]}"


async def is_served(node: Node, address: Address) -> bool:
    try:
        async with connected(address) as streams:
            return await echoed(streams, b"ping pong") == b"ping pong"
    except OSError:
        return False


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (policy(FROM_A), True),
        (policy(FROM_OTHER), False),
        (policy(FROM_HERE), True),
        (policy(FROM_ELSEWHERE), False),
        (policy(ANYBODY) + policy(FROM_A, "DENY", "d"), False),
        (policy(ANYBODY) + policy(FROM_OTHER, "DENY", "d"), True),
        # A field of HTTP on TCP: an ALLOW rule is skipped, and a DENY rule loses the field.
        (policy(GET), False),
        (policy(ANYBODY) + policy(GET, "DENY", "d"), False),
    ],
    ids=["peer", "other peer", "address", "other address", "deny", "deny other", "http allow", "http deny"],
)
async def test_a_connection_is_judged_before_the_app_is_dialled(text: str, allowed: bool, tunnel: bool) -> None:
    async with an_app() as app, governed(app.address, text, tunnel=tunnel) as b, side_a(b.inbound, tunnel=tunnel) as a:
        assert await is_served(a, a.outbound) is allowed
        line = await b.lines.next()
        assert (line["verdict"], line["security"], line["port"]) == (
            "allowed" if allowed else "denied",
            "mutual_tls",
            app.address.port,
        )
        if allowed:
            assert line["policy"] == "ns[default]-policy[p]"
        else:
            assert line["outcome"] == "POLICY_DENIED"
            assert line["source_id"] == str(A)
    assert app.connections == allowed


async def test_without_a_policy_for_it_a_workload_is_open_and_with_an_empty_one_closed() -> None:
    of_another = policy(FROM_OTHER).replace("spec: {", "spec: {selector: {matchLabels: {app: x}}, ")
    for text, allowed in ((of_another, True), (policy("").replace("rules: []", ""), False)):
        async with an_app() as app, governed(app.address, text) as b, side_a(b.inbound) as a:
            assert await is_served(a, a.outbound) is allowed


async def test_allow_is_one_more_policy_beside_the_others() -> None:
    async with (
        an_app() as app,
        governed(app.address, policy(FROM_OTHER), allow=(A,)) as b,
        side_a(b.inbound) as a,
        side_a(b.inbound, context_for(OURS, OTHER)) as other,
    ):
        assert await is_served(a, a.outbound)
        assert (await b.lines.next())["policy"] == f"ns[default]-policy[inbound {ANYWHERE} allow]"
        assert await is_served(other, other.outbound)
    async with an_app() as app, governed(app.address, policy(FROM_OTHER), allow=()) as b, side_a(b.inbound) as a:
        assert not await is_served(a, a.outbound)


# -- modes --

_MODES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: m, namespace: default}}
spec:
  selector: {{matchLabels: {{app: b}}}}
  mtls: {{mode: {mode}}}
  portLevelMtls: {{"{port}": {{mode: {of_port}}}}}
"""


def written(directory: Path, app: Address, documents: str, more: str = "") -> SidecarConfig:
    (directory / "policies").mkdir(exist_ok=True)
    (directory / "policies" / "p.yaml").write_text(documents)
    file = directory / "b.yaml"
    file.write_text(
        f"""
name: b
spiffe_id: {B}
labels: {{app: b}}
policies: [policies]
inbound: [{{listen: "127.0.0.1:0", app: "{app}"{more}}}]
limits: {{detect_timeout: 30s, handshake_timeout: 60s, connect_timeout: 60s}}
"""
    )
    return load_config(file)


@pytest.mark.parametrize(
    ("mode", "of_port", "mutual", "plain"),
    [
        ("STRICT", "UNSET", True, False),
        ("PERMISSIVE", "UNSET", True, True),
        ("DISABLE", "UNSET", False, True),
        ("STRICT", "PERMISSIVE", True, True),
        ("PERMISSIVE", "STRICT", True, False),
        ("STRICT", "DISABLE", False, True),
    ],
)
async def test_the_mode_is_that_of_the_app_s_port(
    tmp_path: Path, mode: str, of_port: str, mutual: bool, plain: bool
) -> None:
    async with an_app() as app:
        documents = _MODES.format(mode=mode, of_port=of_port, port=app.address.port) + policy(ANYBODY)
        config = written(tmp_path, app.address, documents)
        async with running(config, ConstantSource(context_for(OURS, B))) as b, side_a(b.inbound) as a:
            assert await is_served(a, a.outbound) is mutual
            assert await is_served(b, b.inbound) is plain


async def test_a_mode_in_the_sidecar_s_file_is_the_narrowest(tmp_path: Path) -> None:
    async with an_app() as app:
        documents = _MODES.format(mode="PERMISSIVE", of_port="UNSET", port=app.address.port) + policy(ANYBODY)
        config = written(tmp_path, app.address, documents, ", mode: STRICT")
        async with running(config, ConstantSource(context_for(OURS, B))) as b, side_a(b.inbound) as a:
            assert await is_served(a, a.outbound)
            assert not await is_served(b, b.inbound)


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_plaintext_is_judged_too_and_the_app_not_dialled_for_it_in_vain(mode: Mode) -> None:
    for text, allowed in ((policy(FROM_HERE), True), (policy(FROM_A), False)):
        async with an_app() as app, governed(app.address, text, mode=mode, limits=PATIENT) as b:
            assert await is_served(b, b.inbound) is allowed
            line = await b.lines.next()
            assert (line["security"], line["source_id"]) == ("plaintext", None)
            assert line["outcome"] == ("OK" if allowed else "POLICY_DENIED")
        assert app.connections == allowed


async def test_a_silent_client_that_would_be_denied_in_plaintext_may_still_begin_tls() -> None:
    limits = msgspec.structs.replace(PATIENT, detect_timeout=0.01)
    async with (
        an_app() as app,
        governed(app.address, policy(FROM_A), mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as late,
    ):
        await until(lambda: len(b.sidecar.registry) == 1)
        await asyncio.sleep(0.1)  # more than the detect timeout: the app would have been dialled
        assert app.connections == 0
        peer = RawPeer(engine_of(as_a(), server_side=False), late)
        await peer.shake()
        peer.send(b"ping")
        assert await peer.receive() == b"ping"


async def test_tls_that_is_not_the_mesh_s_passes_through_and_is_judged_as_plaintext(tmp_path: Path) -> None:
    """The app has a certificate of its own, and no client of it has one."""
    served, client = _certificate(tmp_path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served)
    app = Address(*server.sockets[0].getsockname()[:2])
    by_name = "{when: [{key: connection.sni, values: [app.test]}]}"
    async with server:
        for text, allowed in ((policy(by_name), True), (policy(FROM_A), False)):
            async with governed(app, text, mode=Mode.PERMISSIVE, limits=PATIENT) as b, side_a(b.inbound) as a:
                to = b.inbound
                try:
                    streams = await asyncio.open_connection(to.host, to.port, ssl=client, server_hostname="app.test")
                    assert await echoed(streams) == b"ping"
                    streams[1].close()
                    passed = True
                except OSError:
                    passed = False
                assert passed is allowed
                line = await b.lines.next()
                assert (line["security"], line["tls_version"]) == ("plaintext", None)
                # The mesh's own TLS ends here, as ever.
                await is_served(a, a.outbound)
                line = await b.lines.next()
                assert (line["security"], line["source_id"]) == ("mutual_tls", str(A))


def _certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server that is app.test, and of a client that trusts it."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=app.test"
    names = ["-addext", "subjectAltName=DNS:app.test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *made.split(), *names], check=True, capture_output=True)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    return served, ssl.create_default_context(cafile=str(certificate))


# -- faults and changes --


async def test_an_evaluator_that_fails_denies_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: WorkloadPolicies, request: Request, *, reads_http: bool) -> Decision:
        raise ZeroDivisionError

    async with an_app() as app, governed(app.address, policy(FROM_A)) as b, side_a(b.inbound) as a:
        with monkeypatch.context() as patch:
            patch.setattr(WorkloadPolicies, "evaluate", broken)
            assert not await is_served(a, a.outbound)
        told = (await b.lines.next())["detail"]
        assert told == "denied: the policies could not be evaluated: ZeroDivisionError; see the log"
        assert await is_served(a, a.outbound)


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_change_ends_what_it_forbids_with_the_reason_and_leaves_the_rest(tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, policy(FROM_A) + policy(FROM_OTHER, name="o"), tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        side_a(b.inbound, context_for(OURS, OTHER), tunnel=tunnel) as other,
        connected(a.outbound) as forbidden,
        connected(other.outbound) as allowed,
    ):
        assert await echoed(forbidden) == await echoed(allowed) == b"ping"
        told = b.sidecar.reload(with_policies(b.sidecar.config, policy(FROM_OTHER, name="o")))
        assert told.taken == (f"inbound {ANYWHERE} (policies)", "policies")
        assert told.ended == (2 if tunnel else 1)
        with pytest.raises(ConnectionResetError):
            await rest(forbidden)
        line = await b.lines.the("POLICY_DENIED")
        assert "no ALLOW rule matches. The peer is example.org/ns/default/sa/service-a" in line["detail"]
        assert await echoed(allowed) == b"ping"


async def test_a_change_to_strict_ends_live_plaintext() -> None:
    async with (
        an_app() as app,
        governed(app.address, policy(ANYBODY), mode=Mode.PERMISSIVE, limits=PATIENT) as b,
        connected(b.inbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        (inbound,) = b.sidecar.config.inbound
        strict = msgspec.structs.replace(inbound, mode=Mode.STRICT)
        assert b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, inbound=(strict,))).ended == 1
        with pytest.raises(ConnectionResetError):
            await rest(streams)


# -- outbound --


async def test_a_destination_rule_says_how_an_outbound_dials(tmp_path: Path) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r, namespace: default}}
spec: {{host: web.default.svc.cluster.local, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""
    file, documents = tmp_path / "a.yaml", tmp_path / "p.yaml"
    async with an_app() as app, governed(app.address, policy(ANYBODY), mode=Mode.PERMISSIVE, limits=PATIENT) as b:
        file.write_text(
            f"""
name: a
spiffe_id: {A}
policies: [p.yaml]
outbound: [{{listen: "127.0.0.1:0", to: "{b.inbound}", peer: "{B}", host: web}}]
"""
        )
        documents.write_text(rule.format(mode="DISABLE"))
        async with running(load_config(file), ConstantSource(as_a())) as a:
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
                # The other way again, while it runs: what was dialled in plaintext ends.
                documents.write_text(rule.format(mode="ISTIO_MUTUAL"))
                assert a.sidecar.reload(load_config(file)).ended == 1
                with pytest.raises(ConnectionResetError):
                    await rest(streams)
            assert (await b.lines.next())["security"] == "plaintext"
            assert await is_served(a, a.outbound)
            assert (await b.lines.next())["source_id"] == str(A)


def test_policies_of_a_test_are_read() -> None:
    assert len(policies(policy(ANYBODY)).documents.authorization_policies) == 1
