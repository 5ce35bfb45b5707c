"""scapy reads each capture of the corpus, and what both tell of hellos, certificates in clear and alerts is the same.

scapy is a second opinion that shares no code with tshark. It is asked without keys. Where the two differ, the reason is
in the table below.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from meshtls.capture.analysis.watching import Watched
from meshtls.capture.events import AlertSeen, MessageSeen
from meshtls.wire.tls import TLS_1_3, HandshakeType, certificates_of_message
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from tests.corpus.case import Made, read
from tests.corpus.corpus import CORPUS

#: By the sender's port and the fact's name, what was told, in order.
Facts = dict[str, list[object]]
_HELLOS = (int(HandshakeType.CLIENT_HELLO), int(HandshakeType.SERVER_HELLO))
#: Lists of numbers that a ClientHello has, and where they are in our tree.
_LISTS = {
    "supported_versions": "versions",
    "supported_groups": "named_group_list",
    "signature_algorithms": "supported_signature_algorithms",
}


def _ours(made: Made) -> Facts:
    facts: Facts = defaultdict(list)
    for watched in read(made).watched:
        _of_connection(watched, facts)
    return dict(facts)


def _of_connection(watched: Watched, facts: Facts) -> None:
    tls = watched.conversation.tls
    ports = {half.side: half.address.port for half in watched.flow.halves}
    for event in tls.events if tls is not None else ():
        told: Iterator[tuple[str, object]] = iter(())
        if isinstance(event, MessageSeen) and not event.decrypted and tls is not None:
            if event.kind in _HELLOS:
                told = _of_hello(decode_message(event.kind, event.data, tls.version))
            elif event.kind == HandshakeType.CERTIFICATE and tls.version < TLS_1_3:
                told = iter([("certificates", certificates_of_message(tls.version, event.data, limit=16))])
        elif isinstance(event, AlertSeen) and not event.decrypted and event.description >= 0:
            told = iter([("alert", (event.level, event.description))])
        for name, value in told:
            facts[f"{ports[event.side]} {name}"].append(value)


def _of_hello(tree: Field) -> Iterator[tuple[str, object]]:
    client = tree.name == "ClientHello"
    yield "version", _value(tree, "legacy_version")
    yield "random", _value(tree, "random")
    yield "session id", _value(tree, "legacy_session_id" if client else "legacy_session_id_echo")
    suites = _values(tree, "cipher_suites") if client else [_value(tree, "cipher_suite")]
    yield "suites", suites
    extensions = tree.child("extensions")
    yield "extensions", [_value(one, "type") for one in extensions.children[1:]] if extensions is not None else []
    name = tree.child("extensions", "server_name", "server_name_list", "server_name", "host_name")
    if name is not None:
        yield "server name", name.value
    names = tree.child("extensions", "application_layer_protocol_negotiation", "protocol_name_list")
    if names is not None:
        yield "ALPN", [one.value for one in names.children[1:]]
    chosen = tree.child("extensions", "supported_versions", "selected_version")
    if chosen is not None:
        yield "versions", [chosen.value]
    for title, list_name in _LISTS.items():
        listed = tree.child("extensions", title, list_name)
        if listed is not None and client:
            yield title, [one.value for one in listed.children[1:]]
    shares = tree.child("extensions", "key_share", "client_shares")
    if shares is not None:
        yield "shares", [(_value(one, "group"), one.length - 4) for one in shares.children[1:]]
    share = tree.child("extensions", "key_share", "server_share")
    if share is not None:
        yield "shares", [(_value(share, "group"), share.length - 4)]


def _value(tree: Field, name: str) -> object:
    found = tree.child(name)
    return found.value if found is not None else None


def _values(tree: Field, name: str) -> list[object]:
    found = tree.child(name)
    return [one.value for one in found.children[1:]] if found is not None else []


# -- scapy --


def _scapys(file: Path) -> Facts:
    from scapy.layers.tls.record import TLS
    from scapy.main import load_layer
    from scapy.sendrecv import sniff
    from scapy.sessions import TCPSession

    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    for layer in ("l2", "inet", "inet6", "tls"):
        load_layer(layer)
    facts: Facts = defaultdict(list)
    encrypted: set[int] = set()
    is_1_3 = False
    for packet in sniff(offline=str(file), session=TCPSession, quiet=True):
        count = 1
        while (record := packet.getlayer(TLS, count)) is not None:
            count += 1
            port = int(packet.sport)
            if record.type == 20:
                encrypted.add(port)
            elif is_1_3 or port not in encrypted:
                # Without a session scapy takes what TLS 1.2 encrypts for messages. TLS 1.3 gives it another type.
                for message in record.msg:
                    for name, value in _of_scapy(message):
                        facts[f"{port} {name}"].append(value)
                        is_1_3 |= name == "versions"
    return dict(facts)


def _of_scapy(message: Any) -> Iterator[tuple[str, object]]:
    kind = type(message).__name__
    if kind == "TLSAlert":
        yield "alert", (message.level, message.descr)
    elif kind == "TLSCertificate":
        yield "certificates", [one.x509Cert.original or bytes(one.x509Cert) for _, one in message.certs]
    elif kind in ("TLSClientHello", "TLSServerHello", "TLS13ServerHello", "TLS13HelloRetryRequest"):
        yield "version", message.version
        random = message.random_bytes
        yield "random", message.gmt_unix_time.to_bytes(4, "big") + random if len(random) == 28 else random
        yield "session id", message.sid
        yield "suites", list(message.ciphers) if kind == "TLSClientHello" else [message.cipher]
        extensions = message.ext or []
        yield "extensions", [int(one.type) for one in extensions]
        for one in extensions:
            yield from _of_extension(one)


def _of_extension(one: Any) -> Iterator[tuple[str, object]]:
    kind = type(one).__name__
    if kind == "TLS_Ext_ServerName":
        yield from (("server name", name.servername) for name in one.servernames)
    elif kind == "TLS_Ext_ALPN":
        yield "ALPN", [name.protocol for name in one.protocols]
    elif kind == "TLS_Ext_SupportedVersion_SH":
        yield "versions", [one.version]
    elif kind == "TLS_Ext_SupportedVersion_CH":
        yield "supported_versions", list(one.versions)
    elif kind == "TLS_Ext_SupportedGroups":
        yield "supported_groups", list(one.groups)
    elif kind == "TLS_Ext_SignatureAlgorithms":
        yield "signature_algorithms", list(one.sig_algs)
    elif kind == "TLS_Ext_KeyShare_CH":
        yield "shares", [(share.group, share.kxlen) for share in one.client_shares]
    elif kind == "TLS_Ext_KeyShare_SH":
        yield "shares", [(one.server_share.group, one.server_share.kxlen)]


#: What scapy tells otherwise, and why.
_NO_HELLO = {"cut within the ClientHello"}
_HELLO_FACTS = ("version", "random", "session id", "suites", "extensions", "shares")
_CLIENTS = (*_HELLO_FACTS, "server name", *_LISTS)
_SERVERS = (*_HELLO_FACTS, "versions")
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    "OpenBSD loopback with IPv6": dict.fromkeys(
        [*(f"40000 {name}" for name in _CLIENTS), *(f"443 {name}" for name in _SERVERS)],
        "scapy knows Linux's number for IPv6 in such a header, and not those of the BSDs",
    ),
    "IPv4 fragments, last first": dict.fromkeys(
        [f"443 {name}" for name in _SERVERS], "scapy joins fragments only with another kind of session, without TCP"
    ),
    "HelloRetryRequest": dict.fromkeys(
        [*(f"40000 {name}" for name in _CLIENTS), *(f"443 {name}" for name in _SERVERS)],
        "scapy can't read a HelloRetryRequest; the other hellos come after a ChangeCipherSpec, where it is not asked",
    ),
    "plaintext on a TLS port, answered by an alert": {
        "443 alert": "the client speaks no TLS: we tell the alert in the connection's problem, not as one of a session"
    },
}


@pytest.mark.parametrize("name", CORPUS)
def test_scapy_tells_the_same_of_hellos_certificates_and_alerts(name: str, tmp_path: Path) -> None:
    made = CORPUS[name].make(tmp_path)
    file = tmp_path / "capture"
    file.write_bytes(made.data)
    ours, scapys = _ours(Made(made.data)), _scapys(file)
    speaks_tls = any(one.conversation.tls is not None for one in read(made).watched)
    assert bool(ours) == (speaks_tls and name not in _NO_HELLO), "a session without a fact compares nothing"
    differ = {fact for fact in {*ours, *scapys} if ours.get(fact) != scapys.get(fact)}
    assert differ == set(DIFFERENCES.get(name, {})), {
        fact: (ours.get(fact), scapys.get(fact)) for fact in sorted(differ)
    }
