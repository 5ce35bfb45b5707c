"""``meshtls policy explain --config`` says of a request what a sidecar with this file does with it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from meshtls.cli.policy.facts import Facts
from meshtls.cli.policy.sidecar_file import listener_of
from meshtls.errors import RequestError
from meshtls.sidecar.settings import ForwardClientCert, HttpKeys, Protocol, SidecarConfig
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import A, B, connected, side_a
from tests.support.waiting import SECONDS

_META = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\n"
ANY = "{rules: [{}]}"
BY_CLIENT = "{rules: [{from: [{source: {remoteIpBlocks: [127.0.0.0/8]}}]}]}"
ONE_PROXY = {"num_trusted_proxies": 1}
SANITIZE = {"forward_client_cert": ForwardClientCert.SANITIZE}
XFCC = "x-forwarded-client-cert"


def when(key: str, values: str, action: str = "ALLOW") -> str:
    allowed = f"{_META.replace('name: p', 'name: q')}spec: {ANY}\n---\n{_META}spec: " if action == "DENY" else ""
    return f"{allowed}{{action: {action}, rules: [{{when: [{{key: 'request.headers[{key}]', {values}}}]}}]}}"


def to(operation: str) -> str:
    return f"{{rules: [{{to: [{{operation: {operation}}}]}}]}}"


#: Policies, what the listener has, the request's method, target, host and headers, and the status of the answer.
CASES: tuple[tuple[str, dict[str, Any], str, str, str, tuple[tuple[str, str], ...], int], ...] = (
    (BY_CLIENT, ONE_PROXY, "GET", "/", "b", (), 403),
    (BY_CLIENT, ONE_PROXY, "GET", "/", "b", (("x-forwarded-for", "9.9.9.9"),), 403),
    (BY_CLIENT, ONE_PROXY, "GET", "/", "b", (("x-forwarded-for", "127.0.0.1"),), 200),
    (BY_CLIENT, {}, "GET", "/", "b", (("x-forwarded-for", "9.9.9.9"),), 200),
    (to("{methods: [CONNECT], paths: [/]}"), {}, "CONNECT", "a:1", "a:1", (), 403),
    (to("{methods: [CONNECT]}"), {}, "CONNECT", "a:1", "a:1", (), 200),
    (to("{methods: [CONNECT]}"), {}, "CONNECT", "a", "a", (), 400),
    (when(XFCC, "notValues: ['*']"), {}, "GET", "/", "b", (), 403),
    (when(XFCC, "notValues: ['*']"), SANITIZE, "GET", "/", "b", ((XFCC, "By=evil"),), 200),
    (when(XFCC, "values: ['*evil']"), {}, "GET", "/", "b", ((XFCC, "By=evil"),), 403),
    (when(XFCC, f"values: ['*URI={A}']"), {}, "GET", "/", "b", (), 200),
    (when("upgrade", "values: [WebSocket]", "DENY"), {}, "GET", "/", "b", (("Upgrade", "WebSocket"),), 200),
    (
        when("upgrade", "values: [websocket]", "DENY"),
        {},
        *("GET", "/", "b", (("Connection", "upgrade"), ("Upgrade", "WebSocket")), 403),
    ),
    (ANY, {}, "GET", "/", "b", (("x_y", "1"),), 400),
    (ANY, {"http": HttpKeys(underscore_names=True)}, "GET", "/", "b", (("x_y", "1"),), 200),
    (ANY, {}, "GET", "/", "b", (("transfer-encoding", "gzip"),), 400),
    (ANY, {}, "GET", "/", "b", (("host", "b"),), 400),
    (ANY, {}, "GET", "/", "b", (("expect", "foo"),), 417),
    (to("{hosts: [good]}"), {}, "GET", "/", "good", (), 200),
    (to("{hosts: [good]}"), {}, "GET", "/", "bad", (), 403),
    (ANY, {}, "GET", "/z%00", "b", (), 400),
    (when("x", "values: ['Köln']", "DENY"), {}, "GET", "/", "b", (("x", "Köln"),), 403),
    (when("x", "values: ['Köln']", "DENY"), {}, "GET", "/", "b", (("x", "Koln"),), 200),
)


@pytest.mark.parametrize(("spec", "keys", "method", "target", "host", "headers", "status"), CASES)
async def test_explain_by_a_sidecars_file_and_the_sidecar_agree(
    spec: str,
    keys: dict[str, Any],
    method: str,
    target: str,
    host: str,
    headers: tuple[tuple[str, str], ...],
    status: int,
) -> None:
    text = spec if spec.startswith("apiVersion") else f"{_META}spec: {spec}\n"
    lines = (f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers), "", "")
    async with a_web_app() as app, governed(app.address, text, protocol=Protocol.HTTP, **keys) as b:
        async with side_a(b.inbound) as a, connected(a.outbound) as (reader, writer), asyncio.timeout(SECONDS):
            writer.write("\r\n".join(lines).encode())
            answer = await reader.readline()
        config = b.sidecar.config

    path = None if method == "CONNECT" else target
    facts = Facts(source=A, destination=B, ip="127.0.0.1", method=method, path=path, host=host, headers=headers)
    assert _explained(config, facts) == status
    assert bool(app.seen) is (status == 200)
    if status != 200:  # the app answers CONNECT as no app should, with a body
        assert answer.startswith(b"HTTP/1.1 %d " % status)


def _explained(config: SidecarConfig, facts: Facts) -> int:
    """The status that explain tells of; 200 if the request is allowed."""
    try:
        decision = listener_of(config, None).review(facts)[0].decision
    except RequestError as error:
        text = str(error)
    else:
        text = "200" if decision.allowed else decision.reason
    found = re.search(r"^200$|(?<=refuses such a request with )4\d\d|(?<=^denied with )400", text)
    return int(found[0]) if found else 403
