"""A real Envoy with RBAC filters and our sidecar judge a random sample of requests alike, byte for byte the same."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshtls.sidecar.settings import Limits, Mode, Protocol
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from tests.integration.policy.envoy_rbac import rbac_bootstrap
from tests.integration.policy.web_app import web_app
from tests.integration.sidecar.governed import governed, with_policies
from tests.integration.sidecar.mesh import OURS, PARTNER, as_b
from tests.support.authority import context_for
from tests.support.envoy import started_envoy
from tests.support.waiting import SECONDS

Json = dict[str, Any]
SETS, REQUESTS_OF_EACH = 50, 8
SEED = 20
IDS = (
    "example.org/ns/default/sa/service-a",
    "example.org/ns/shop/sa/web",
    "example.org/ns/sh.p/x/ns/front/sa/client",
    "partner.test/ns/front/sa/client",
    "partner.test/plain",
)
VALUES: dict[str, tuple[str, ...]] = {
    "principals": (*IDS, "*", "example.org/*", "*/sa/client", "*web", "partner.test/ns/*"),
    "namespaces": ("default", "shop", "sh.p", "fr*", "*t", "*", "f*o*t"),
    "ipBlocks": ("127.0.0.0/8", "10.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0"),
    "hosts": ("b", "B", "b.shop", "*.shop", "b*", "*", "b:80"),
    "methods": ("GET", "POST", "P*", "*T", "*"),
    "paths": (
        *("/", "/a", "/a/*", "*/b", "*", "/a/b", "/a//b", "/A", "/a/", "/a%2Fb", "/a%2fb", "/a/b?x=1", "/a;x/b"),
        *("/a/{*}", "/a/{*}/b", "/a/{**}", "/{**}/b", "/{*}/{*}", "/a/{**}/b", "/{*}"),
    ),
    "ports": ("1",),
    "source.principal": (*IDS, "*", "example.org/*", "*web"),
    "source.namespace": ("default", "fr*", "*"),
    "source.ip": ("127.0.0.0/8", "10.0.0.0/8"),
    "request.headers[x-user]": ("x", "x*", "*y", "*", "xy", "x,y", "é", "é*", "*é"),
    "request.headers[X-User]": ("x", "*"),
    "request.headers[:method]": ("GET", "P*", "*T", "*"),
    "request.headers[:path]": ("/a", "/a*", "*/b", "*", "/a/b?x=1", "/a?x=1"),
    "request.headers[:authority]": ("b", "B", "b*", "*.shop", "b:80", "*"),
}
SOURCES, OPERATIONS = ("principals", "namespaces", "ipBlocks"), ("hosts", "methods", "paths", "paths", "ports")
CONDITIONS = tuple(name for name in VALUES if "." in name)
TARGETS = (
    *(
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a//b",
        "//a/b",
        "/a/../b",
        "/a/./b",
        "/a/b/..",
        "/../a",
        "/a/c/b",
        "/A",
        "/b",
        "/x/b",
    ),
    *("/a%2Fb", "/a%2fb", "/%61", "/a%2e%2e/b", "/a/%2e%2e/b", "/a\\b", "/a/%5cb", "/a?x=1", "/a/b?x=/../b", "/?/a/b"),
    *("/a;x/b", "/a/*", "/a%00", "/a/b%20", "/a/%zz", "/a//", "/a/b/c/d", "/~a/%7Ea", "/a/b/", "/a/b#c"),
)
METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "PATCH")
HOSTS = ("b", "b", "B", "b.shop", "B.Shop", "b:80", "x.test", "b.shop:80")
USERS = ((), (), ("x",), ("xy",), ("x", "y"), ("",), ("zy",), ("é",), ("éx",), ("xé",))
PREFIXES = {"to": "operation", "from": "source"}


@dataclass(frozen=True)
class Sample:
    identity: str | None
    method: str
    target: str
    host: str
    users: tuple[str, ...]

    def head(self, number: int) -> bytes:
        users = "".join(f"x-user: {user}\r\n" for user in self.users)
        return f"{self.method} {self.target} HTTP/1.1\r\nHost: {self.host}\r\nx-set: {number}\r\n{users}\r\n".encode(
            errors="surrogateescape"
        )


@dataclass
class Differences:
    """``statuses`` are those that Envoy gave, so that the sample is known to have all kinds. ``stricter`` counts the
    wanted differences.
    """

    found: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    count: int = 0
    stricter: int = 0


def random_policies(chance: random.Random) -> list[Json]:
    return [_policy(chance, f"p{number}") for number in range(chance.choice((1, 1, 2, 3)))]


def _policy(chance: random.Random, name: str) -> Json:
    action = chance.choice(("ALLOW", "ALLOW", "DENY"))
    least = 1 if action == "DENY" else 0
    rules = [_rule(chance) for _ in range(max(least, chance.choice((0, 1, 1, 2, 3))))]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": rules} if rules else {},
    }


def _rule(chance: random.Random) -> Json:
    rule: Json = {}
    for key, names in (("from", SOURCES), ("to", OPERATIONS)):
        if chance.random() < 0.6:
            rule[key] = [{PREFIXES[key]: _fields(chance, names)} for _ in range(chance.choice((1, 1, 2)))]
    if chance.random() < 0.3:
        rule["when"] = [_condition(chance)]
    return rule


def _fields(chance: random.Random, names: tuple[str, ...]) -> Json:
    chosen = {chance.choice(names) for _ in range(chance.choice((1, 1, 2)))}
    return {_maybe_not(chance, name): _some(chance, name) for name in sorted(chosen)}


def _maybe_not(chance: random.Random, name: str) -> str:
    return f"not{name[0].upper()}{name[1:]}" if chance.random() < 0.3 else name


def _condition(chance: random.Random) -> Json:
    key = chance.choice(CONDITIONS)
    return {"key": key, "notValues" if chance.random() < 0.3 else "values": _some(chance, key)}


def _some(chance: random.Random, name: str) -> list[str]:
    return sorted({chance.choice(VALUES[name]) for _ in range(chance.choice((1, 1, 2)))})


def random_sample(chance: random.Random) -> Sample:
    identity = chance.choice((None, *IDS, *IDS))
    pick = chance.choice
    return Sample(identity, pick(METHODS), pick(TARGETS), pick(HOSTS), pick(USERS))


class Client:
    """Sends the same bytes to Envoy and to our listener, as one identity or as none."""

    def __init__(self, directory: Path) -> None:
        self._contexts: dict[str | None, ssl.SSLContext | None] = {None: None}
        for number, identity in enumerate(IDS):
            authority = PARTNER if identity.startswith("partner.test/") else OURS
            context = context_for(authority, SpiffeId.parse(f"spiffe://{identity}"))
            chain, key = write(context, directory, f"client{number}")
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the servers are this test's own
            tls.load_cert_chain(chain, key)
            self._contexts[identity] = tls

    async def status(self, sample: Sample, number: int, port: int) -> int:
        return await asyncio.to_thread(self._status, sample, number, port)

    def _status(self, sample: Sample, number: int, port: int) -> int:
        context = self._contexts[sample.identity]
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            sock = plain if context is None else context.wrap_socket(plain)
            with sock:
                sock.sendall(sample.head(number))
                answer = sock.recv(1 << 16)
        return int(answer.split()[1])


def write(context: X509Context, directory: Path, name: str) -> tuple[Path, Path]:
    """A context's SVID as PEM files: chain and key."""
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    chain.write_bytes(context.svid.chain_pem())
    key.touch(0o600)
    key.write_bytes(context.svid.key_pem())
    return chain, key


@pytest.mark.timeout(300)
async def test_envoy_and_the_sidecar_decide_alike(tmp_path: Path) -> None:
    chance, differences = random.Random(SEED), Differences()  # noqa: S311  # a sample
    sets = [random_policies(chance) for _ in range(SETS)]
    roots = tmp_path / "roots.pem"
    roots.write_bytes(OURS.bundle.to_pem() + PARTNER.bundle.to_pem())
    chain, key = write(as_b(), tmp_path, "server")
    client = Client(tmp_path)
    limits = Limits(handshake_timeout=60, connect_timeout=60, detect_timeout=SECONDS)
    async with (
        started_envoy(tmp_path, rbac_bootstrap(sets, chain=chain, key=key, roots=roots)) as envoy,
        web_app() as app,
        governed(app.address, texts(sets[0]), protocol=Protocol.HTTP, mode=Mode.PERMISSIVE, limits=limits) as b,
    ):
        ports = {True: await envoy.port("mutual"), False: await envoy.port("plaintext")}
        for number, policies in enumerate(sets):
            b.sidecar.reload(with_policies(b.sidecar.config, texts(policies)))
            for _ in range(REQUESTS_OF_EACH):
                sample = random_sample(chance)
                theirs = await client.status(sample, number, ports[sample.identity is not None])
                ours = await client.status(sample, number, b.inbound.port)
                differences.count += 1
                differences.statuses.add(theirs)
                if (theirs, ours) == (200, 403) and _is_repeated(sample, policies):
                    differences.stricter += 1
                elif theirs != ours:
                    differences.found.append(f"envoy {theirs}, ours {ours}: {sample}, {json.dumps(policies)}")
    assert differences.found == []
    assert differences.statuses >= {200, 403, 400}
    assert differences.count == SETS * REQUESTS_OF_EACH
    assert differences.stricter > 0


def _is_repeated(sample: Sample, policies: list[Json]) -> bool:
    """Whether we are to be stricter than Envoy: it lets a header in if any of its lines matches, we want them all."""
    rules = [rule for one in policies for rule in one["spec"].get("rules", ())]
    keys = {condition["key"].lower() for rule in rules for condition in rule.get("when", ())}
    return len(sample.users) > 1 and "request.headers[x-user]" in keys


@asynccontextmanager
async def envoy_and_sidecar(directory: Path, spec: Json) -> AsyncIterator[tuple[int, int]]:
    """The ports for plaintext of an Envoy and of a sidecar under one policy, each with an app behind it."""
    policies: list[Json] = [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "users", "namespace": "default"},
            "spec": spec,
        }
    ]
    roots = directory / "roots.pem"
    roots.write_bytes(OURS.bundle.to_pem() + PARTNER.bundle.to_pem())
    chain, key = write(as_b(), directory, "server")
    async with (
        started_envoy(directory, rbac_bootstrap([policies], chain=chain, key=key, roots=roots)) as envoy,
        web_app() as app,
        governed(app.address, texts(policies), protocol=Protocol.HTTP, mode=Mode.PERMISSIVE) as b,
    ):
        yield await envoy.port("plaintext"), b.inbound.port


@pytest.mark.timeout(300)
async def test_envoy_allows_a_header_by_one_of_its_lines_and_the_sidecar_by_each(tmp_path: Path) -> None:
    rule = {"when": [{"key": "request.headers[x-user]", "values": ["x"]}]}
    spec: Json = {"action": "ALLOW", "rules": [rule]}
    client = Client(tmp_path)
    async with envoy_and_sidecar(tmp_path, spec) as (port, ours_port):
        for users, theirs, ours in ((("x", "y"), 200, 403), (("x", "x"), 200, 200), (("y", "y"), 403, 403)):
            sample = Sample(None, "GET", "/", "b", users)
            assert await client.status(sample, 0, port) == theirs
            assert await client.status(sample, 0, ours_port) == ours


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("action", "theirs"), [("DENY", (403, 200, 200)), ("ALLOW", (200, 403, 403))])
async def test_envoy_and_the_sidecar_compare_headers_as_utf_8(
    tmp_path: Path, action: str, theirs: tuple[int, ...]
) -> None:
    spec: Json = {"action": action, "rules": [{"when": [{"key": "request.headers[x-user]", "values": ["Köln"]}]}]}
    client = Client(tmp_path)
    async with envoy_and_sidecar(tmp_path, spec) as (port, ours_port):
        # In UTF-8, in Latin-1, and in ASCII.
        for user, status in zip(("Köln", "K\udcf6ln", "Koln"), theirs, strict=True):
            sample = Sample(None, "GET", "/", "b", (user,))
            assert await client.status(sample, 0, port) == status
            assert await client.status(sample, 0, ours_port) == status


def texts(policies: list[Json]) -> str:
    return "\n---\n".join(json.dumps(one) for one in policies)
