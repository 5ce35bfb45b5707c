"""A sidecar's file: what it gives, and for each mistake the whole message."""

from __future__ import annotations

from pathlib import Path

import pytest

import meshtls.cli
from meshtls.address import Address
from meshtls.errors import ConfigError, RequestError
from meshtls.sidecar.config import load_config, parse_config
from meshtls.sidecar.settings import (
    InboundConfig,
    KeyExchange,
    Limits,
    Mode,
    OutboundConfig,
    SidecarConfig,
    TlsMinimum,
    Workload,
    leads_back,
)
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import parse_address

A = SpiffeId.parse("spiffe://example.org/ns/default/sa/service-a")
B = SpiffeId.parse("spiffe://example.org/ns/default/sa/service-b")
FULL = f"""\
name: a
spiffe_id: {A}
identity: {{workload_api: unix:///run/meshtls/agent.sock}}
inbound:
  - {{listen: "0.0.0.0:15006", app: "127.0.0.1:8080", mode: PERMISSIVE, allow: ["{B}"], tls_min: 1.2,
     key_exchange: P-256, resumption: true}}
  - {{listen: "[::1]:15007", app: "web:80", mode: DISABLE}}
outbound:
  - {{listen: "127.0.0.1:15001", to: "127.0.0.1:15106", peer: "{B}", resumption: true, warm: 4}}
workload: {{cluster: east, namespace: shop, deployment: web-v2, service: web, version: v2}}
limits:
  connections: 8
  unproven: 7
  handshakes: 6
  handshake_timeout: 1s
  connect_timeout: 1.5s
  idle_timeout: 2m
  detect_timeout: 50ms
  drain_timeout: 1h
  tunnel_streams: 2000
  tunnel_window: 256KiB
  tunnel_memory: 64MiB
health: "127.0.0.1:15021"
workers: 2
log_level: debug
"""
ONE_DOOR = f"""\
name: a
spiffe_id: {A}
inbound:
  - listen: "127.0.0.1:15006"
    app: "127.0.0.1:8080"
    allow: []
"""


def test_a_full_file_gives_every_value() -> None:
    assert parse_config(FULL) == SidecarConfig(
        name="a",
        spiffe_id=A,
        workload_api=parse_address("unix:///run/meshtls/agent.sock"),
        inbound=(
            InboundConfig(
                listen=Address("0.0.0.0", 15006),  # noqa: S104  # the file says so
                app=Address("127.0.0.1", 8080),
                mode=Mode.PERMISSIVE,
                allow=(B,),
                tls_min=TlsMinimum.V1_2,
                key_exchange=KeyExchange.P256,
                resumption=True,
            ),
            InboundConfig(listen=Address("::1", 15007), app=Address("web", 80), mode=Mode.DISABLE),
        ),
        outbound=(
            OutboundConfig(
                listen=Address("127.0.0.1", 15001), to=Address("127.0.0.1", 15106), peer=B, resumption=True, warm=4
            ),
        ),
        workload=Workload(cluster="east", namespace="shop", deployment="web-v2", service="web", version="v2"),
        limits=Limits(
            connections=8,
            unproven=7,
            handshakes=6,
            handshake_timeout=1.0,
            connect_timeout=1.5,
            idle_timeout=120.0,
            detect_timeout=0.05,
            drain=3600.0,
            tunnel_streams=2000,
            tunnel_window=1 << 18,
            tunnel_memory=1 << 26,
        ),
        health=Address("127.0.0.1", 15021),
        workers=2,
        log_level="DEBUG",
    )


def test_defaults_are_strict_admit_nobody_and_use_tls_1_3() -> None:
    config = parse_config(ONE_DOOR)
    door = config.inbound[0]
    assert (door.mode, door.allow, door.tls_min) == (Mode.STRICT, (), TlsMinimum.V1_3)
    assert door.key_exchange is KeyExchange.LIBRARY
    assert (config.workload_api, config.outbound, config.limits, config.health) == (None, (), Limits(), None)
    assert (door.resumption, config.workers) == (False, 1)


@pytest.mark.parametrize(
    ("listen", "app", "same"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "localhost:80", True),
        ("0.0.0.0:80", "127.0.0.9:80", True),
        ("0.0.0.0:80", "app.test:80", False),
        ("[::]:80", "[::1]:80", True),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_a_listener_that_dials_itself_is_distinguished_from_one_that_leads_on(
    listen: str, app: str, same: bool
) -> None:
    assert leads_back(Address.parse(app), Address.parse(listen)) is same


def test_several_listeners_may_ask_for_a_free_port() -> None:
    text = ONE_DOOR.replace(":15006", ":0") + 'health: "127.0.0.1:0"\n'
    assert parse_config(text).health == Address("127.0.0.1", 0)


INBOUND_KEYS = (
    "listen, app, mode, allow, tls_min, key_exchange, tunnel, destinations, resumption, protocol, forward_client_cert,"
    " client_cert_details, proxy_protocol, proxy_protocol_from, num_trusted_proxies, http"
)
MISTAKES = {
    "an unknown mode": (
        ("    allow", "    mode: strict\n    allow"),
        "a.yaml, line 6: inbound[0].mode: wanted STRICT, PERMISSIVE or DISABLE, got 'strict'",
    ),
    "an unknown key": (
        ("    allow", "    alow"),
        "a.yaml, line 4: inbound[0].allow: this key is required, and it is missing\n"
        f"a.yaml, line 6: inbound[0].alow: unknown key; wanted one of {INBOUND_KEYS}",
    ),
    "an unknown key beside all that is needed": (
        ("    allow", "    color: red\n    allow"),
        f"a.yaml, line 6: inbound[0].color: unknown key; wanted one of {INBOUND_KEYS}",
    ),
    "an unknown key at the top": (
        ("name: a", "name: a\nnmae: a"),
        "a.yaml, line 2: nmae: unknown key; wanted one of name, spiffe_id, identity, inbound, outbound, workload, "
        "limits, policies, labels, namespace, trust_domain_aliases, root_namespace, path_normalization, ext_authz, "
        "request_auth, crls, health, insecure_keylog_file, insecure_capture, metrics, tracing, workers, admin, "
        "log_level, log_format",
    ),
    "metrics at an address that is taken": (
        ("name: a", "name: a\nmetrics: {listen: 127.0.0.1:15006}"),
        "a.yaml, line 2: metrics.listen: wanted an address that no other listener has, got 127.0.0.1:15006 again",
    ),
    "metrics at a free port with several workers": (
        ("name: a", "name: a\nworkers: 2\nmetrics: {listen: 127.0.0.1:0}"),
        "a.yaml, line 2: workers: wanted a port other than 0 for each listener, since the workers share them",
    ),
    "no allow-list": (
        ("    allow: []\n", ""),
        "a.yaml, line 4: inbound[0].allow: this key is required, and it is missing",
    ),
    "an allow-list that is one text": (
        ("allow: []", "allow: everybody"),
        "a.yaml, line 6: inbound[0].allow: wanted a list, got 'everybody'",
    ),
    "an allow-list with something that is no ID": (
        ("allow: []", f'allow: ["{B}", "*"]'),
        "a.yaml, line 6: inbound[0].allow[1]: SPIFFE ID '*': wanted it to start with 'spiffe://'",
    ),
    "an allow-list where plaintext comes in": (
        ("    allow", "    mode: DISABLE\n    allow"),
        "a.yaml, line 7: inbound[0].allow: wanted no such key: mode DISABLE takes plaintext, which proves no identity",
    ),
    "an address without a port": (
        ("127.0.0.1:8080", "127.0.0.1"),
        "a.yaml, line 5: inbound[0].app: wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got '127.0.0.1'",
    ),
    "a port that is too high": (
        ("127.0.0.1:8080", "127.0.0.1:65536"),
        "a.yaml, line 5: inbound[0].app: wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got '127.0.0.1:65536'",
    ),
    "a listen address twice": (
        ("inbound:", 'health: "127.0.0.1:15006"\ninbound:'),
        "a.yaml, line 3: health: wanted an address that no other listener has, got 127.0.0.1:15006 again",
    ),
    "an old TLS": (
        ("    allow", "    tls_min: 1.1\n    allow"),
        "a.yaml, line 6: inbound[0].tls_min: wanted 1.2 or 1.3, got '1.1'",
    ),
    "a key exchange that is none of ours": (
        ("    allow", "    key_exchange: RSA\n    allow"),
        "a.yaml, line 6: inbound[0].key_exchange: wanted library, X25519, P-256 or P-384, got 'RSA'",
    ),
    "a number where a time is wanted": (
        ("inbound:", "limits: {drain: 10}\ninbound:"),
        "a.yaml, line 3: limits.drain: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '10'",
    ),
    "no time at all": (
        ("inbound:", "limits: {drain: 0s}\ninbound:"),
        "a.yaml, line 3: limits.drain: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '0s'",
    ),
    "memory for fewer windows than are needed": (
        ("inbound:", "limits: {tunnel_window: 32MiB, tunnel_memory: 100MiB}\ninbound:"),
        "a.yaml, line 3: limits.tunnel_memory: wanted tunnel_memory of at least 4 times tunnel_window, which"
        " is 134217728 bytes, got 104857600: one stream whose app does not read must not use it up",
    ),
    "a window that memory does not hold": (
        ("inbound:", "limits: {tunnel_window: 65MiB}\ninbound:"),
        "a.yaml, line 3: limits.tunnel_window: wanted tunnel_memory of at least 4 times tunnel_window, which"
        " is 272629760 bytes, got 268435456: one stream whose app does not read must not use it up",
    ),
    "a workload's name that is none": (
        ("inbound:", "workload: {service: ''}\ninbound:"),
        "a.yaml, line 3: workload.service: wanted 1 to 253 characters, got ''",
    ),
    "no connections": (
        ("inbound:", "limits: {connections: 0}\ninbound:"),
        "a.yaml, line 3: limits.connections: wanted a whole number from 1 to 10000000, got '0'",
    ),
    "a list where keys are wanted": (
        ("inbound:", "limits: []\ninbound:"),
        "a.yaml, line 3: limits: wanted keys with values, got a list",
    ),
    "keys where a value is wanted": (
        ("name: a", "name: {first: a}"),
        "a.yaml, line 1: name: wanted a single value, got keys with values",
    ),
    "a key without a value": (("name: a", "name:"), "a.yaml, line 1: name: wanted a single value, got nothing"),
    "an empty name": (("name: a", 'name: ""'), "a.yaml, line 1: name: wanted a word, got an empty text"),
    "a key twice": (
        ("name: a", "name: a\nname: b"),
        "a.yaml, line 2: name: wanted each key once, got it again",
    ),
    "an own ID that is none": (
        (f"spiffe_id: {A}", "spiffe_id: service-a"),
        "a.yaml, line 2: spiffe_id: SPIFFE ID 'service-a': wanted it to start with 'spiffe://'",
    ),
    "an identity from nowhere": (
        ("inbound:", "identity: {socket: /run/ca.sock}\ninbound:"),
        "a.yaml, line 3: identity.workload_api: this key is required, and it is missing\n"
        "a.yaml, line 3: identity.socket: unknown key; wanted one of workload_api",
    ),
    "a Workload API that is no address": (
        ("inbound:", "identity: {workload_api: /run/agent.sock}\ninbound:"),
        "a.yaml, line 3: identity.workload_api: Workload API address '/run/agent.sock':"
        " wanted unix:///absolute/path, unix:/absolute/path or tcp://IP:port",
    ),
    "no listener": (
        (ONE_DOOR[ONE_DOOR.index("inbound:") :], "inbound: []\n"),
        "a.yaml, line 3: inbound: wanted at least one inbound or outbound listener, got none",
    ),
    "no worker": (
        ("inbound:", "workers: 0\ninbound:"),
        "a.yaml, line 3: workers: wanted a whole number from 1 to 1024, got '0'",
    ),
    "more workers than any machine has": (
        ("inbound:", "workers: 100000000\ninbound:"),
        "a.yaml, line 3: workers: wanted a whole number from 1 to 1024, got '100000000'",
    ),
    "a number of more digits than Python takes": (
        ("inbound:", f"limits: {{connections: {'1' * 5000}}}\ninbound:"),
        f"a.yaml, line 3: limits.connections: wanted a whole number from 1 to 10000000, got '{'1' * 60}'..."
        " (5000 characters)",
    ),
    "a time without an end": (
        ("inbound:", f"limits: {{idle_timeout: {'9' * 400}s}}\ninbound:"),
        "a.yaml, line 3: limits.idle_timeout: wanted a time of at most 876600h, which is 100 years,"
        f" got '{'9' * 60}'... (401 characters)",
    ),
    "an own ID without a path": (
        (f"spiffe_id: {A}", "spiffe_id: spiffe://example.org"),
        "a.yaml, line 2: spiffe_id: wanted a workload's ID, with a path such as spiffe://example.org/web,"
        " got spiffe://example.org",
    ),
    "an allow-list with an ID without a path": (
        ("allow: []", "allow: [spiffe://example.org]"),
        "a.yaml, line 6: inbound[0].allow[0]: wanted a workload's ID, with a path such as spiffe://example.org/web,"
        " got spiffe://example.org",
    ),
    "a peer without a path": (
        ("inbound:", 'outbound:\n  - {listen: "h:1", to: "h:2", peer: "spiffe://example.org"}\ninbound:'),
        "a.yaml, line 4: outbound[0].peer: wanted a workload's ID, with a path such as spiffe://example.org/web,"
        " got spiffe://example.org",
    ),
    "an app that is the door itself": (
        ("127.0.0.1:8080", "127.0.0.1:15006"),
        "a.yaml, line 5: inbound[0].app: wanted another address than its own listen, got 127.0.0.1:15006:"
        " a connection would not end",
    ),
    "an outbound that dials itself": (
        ("inbound:", f'outbound:\n  - {{listen: "0.0.0.0:1", to: "localhost:1", peer: "{B}"}}\ninbound:'),
        "a.yaml, line 4: outbound[0].to: wanted another address than its own listen, got localhost:1:"
        " it would dial itself",
    ),
    "tickets where plaintext comes in": (
        ("    allow: []", "    mode: DISABLE\n    resumption: true"),
        "a.yaml, line 7: inbound[0].resumption: wanted no such key: mode DISABLE takes plaintext, which proves no"
        " identity",
    ),
    "warm connections beside a tunnel": (
        ("inbound:", f'outbound:\n  - {{listen: "h:1", to: "h:2", peer: "{B}", tunnel: true, warm: 2}}\ninbound:'),
        "a.yaml, line 4: outbound[0].warm: wanted no such key with tunnel: true, whose connections need no handshake",
    ),
    "an outbound without the peer's ID": (
        ("inbound:", 'outbound:\n  - {listen: "127.0.0.1:1", to: "127.0.0.1:2"}\ninbound:'),
        "a.yaml, line 4: outbound[0].peer: this key is required, and it is missing",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_file_line_and_key(change: tuple[str, str], message: str) -> None:
    assert change[0] in ONE_DOOR
    with pytest.raises(ConfigError) as raised:
        parse_config(ONE_DOOR.replace(*change, 1), "a.yaml")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a.yaml: wanted keys with values, got an empty file"),
        ("- a\n", "a.yaml, line 1: the file: wanted keys with values, got a list"),
        ("a: [", "a.yaml, line 1: wanted a YAML document: "),
        (f"name: {'[' * 3000}", "a.yaml, line 1: wanted a YAML document: nested deeper than 64 levels"),
    ],
)
def test_a_file_whose_top_level_is_not_a_mapping_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(text, "a.yaml")
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize(
    ("address", "notices"),
    [
        ("127.0.0.1:15020", ()),
        ("[::1]:15020", ()),
        (
            "0.0.0.0:15020",
            (
                "metrics.listen: 0.0.0.0:15020 is no loopback address: whoever reaches it reads the metrics, with the"
                " SPIFFE IDs of peers",
            ),
        ),
    ],
)
def test_metrics_that_others_can_read_are_told(address: str, notices: tuple[str, ...]) -> None:
    config = parse_config(f"{ONE_DOOR}metrics: {{listen: '{address}'}}\n")
    assert (str(config.metrics), config.notices) == (address, notices)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: wanted a configuration file to read: No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(("name", "peer"), [("a", B), ("b", A)])
def test_the_demo_pair_is_valid_and_each_half_lets_the_other_in(name: str, peer: SpiffeId) -> None:
    config = load_config(Path(meshtls.cli.__file__).with_name("sidecars") / f"{name}.yaml")
    assert config.name == name
    assert [door.allow for door in config.inbound] == [(peer,)]
    assert [door.peer for door in config.outbound] == [peer]


def test_the_demo_pair_calls_each_other() -> None:
    a, b = (load_config(Path(meshtls.cli.__file__).with_name("sidecars") / f"{name}.yaml") for name in "ab")
    assert a.outbound[0].to == b.inbound[0].listen
    assert b.outbound[0].to == a.inbound[0].listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("web.local:80", Address("web.local", 80)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address_reads_and_writes_itself(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["[0%0]:80", "[1.2.3.4]:80", "[web]:80", "[]:80"])
def test_ipv6_addresses_alone_stand_in_brackets(text: str) -> None:
    assert str(Address.parse("[::1%lo]:80")) == "[::1%lo]:80"
    with pytest.raises(RequestError, match="^wanted host:port such as"):
        Address.parse(text)
