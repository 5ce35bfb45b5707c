"""``meshtls x509 inspect``: a chain in words, with each rule that an X509-SVID has to keep.

The rules are those that decide whether a peer is accepted: ``svid.leaf_rules``, ``svid.presented``, ``svid.verify``.
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from meshtls.address import Address
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.marks import Mark, mark_text
from meshtls.cli.output import Output
from meshtls.config.keys import duration_text
from meshtls.errors import BundleError, ConfigError, InvalidSpiffeIdError, InvalidSvidError, PeerError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.der import elements
from meshtls.svid.description import Description, describe
from meshtls.svid.keys import key_violation
from meshtls.svid.leaf_rules import LEAF_RULES, SIGNING_RULES, extension_of, rulings, uri_names
from meshtls.svid.path import signature_holds
from meshtls.svid.presented import Presented, read_presented
from meshtls.svid.verify import time_violation, verify_peer
from meshtls.svid.x509 import format_moment
from meshtls.tls.unverified import UnverifiedServer, look_at_unverified_server
from meshtls.wire.proxy_protocol import LOCAL_HEADER, LOCAL_HEADER_V1

__all__ = ["Chain", "inspect_chain", "read_chain"]

_MOST_BYTES = 1 << 20
_MOST_CERTIFICATES = 32
_SECONDS = 10.0
_BEGIN, _END, _LABEL_END = b"-----BEGIN ", b"-----END ", b"-----"
_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_PRIVATE_KEY = "it also has a private key, which is not shown"
#: What DER of a certificate starts with: the tag of a SEQUENCE (X.690, section 8.9).
_SEQUENCE = b"\x30"
_WIDTH = 24
_PROXY_HEADERS = {"v1": LOCAL_HEADER_V1, "v2": LOCAL_HEADER}
_LABELS_OF = {
    "sha256": "SHA-256",
    "sha1": "SHA-1",
    "ocsp_at": "OCSP at",
    "crl_at": "CRL at",
    "key_id": "key ID",
    "issuer_key_id": "issuer key ID",
}
_LIMITS = "docs/certificates.md, what a stranger may send"


@dataclass(frozen=True, slots=True)
class Chain:
    """Certificates as DER, leaf first, and where they are from. ``server`` is what a live server told beside them."""

    source: str
    ders: tuple[bytes, ...]
    notes: tuple[str, ...] = ()
    server: UnverifiedServer | None = None


@dataclass(frozen=True, slots=True)
class _Ruling:
    rule: str
    section: str
    #: What is wrong; None if the rule is kept.
    broken: str | None

    def record(self) -> dict[str, object]:
        return {"rule": self.rule, "section": self.section, "kept": self.broken is None, "reason": self.broken or ""}

    def __str__(self) -> str:
        mark = mark_text(Mark.PASSED if self.broken is None else Mark.FAILED)
        return f"{mark} {self.rule} ({self.section})" + (f": {self.broken}" if self.broken is not None else "")


@dataclass(slots=True)
class _Judged:
    described: Description
    role: str
    rulings: list[_Ruling] = field(default_factory=list)
    issued_by: str = ""
    #: How much of its time is left, or has passed since.
    time: str = ""


def read_chain(source: str, proxy_protocol: str | None = None) -> Chain:
    """The certificates of a file, of standard input (``-``), or of the server at ``host:port``.

    A file of that name counts before a server, which is sent the header of this version of the PROXY protocol first.
    Raises ConfigError, and HandshakeError for a server that shows none.
    """
    if proxy_protocol is not None and (source == "-" or Path(source).exists()):
        raise ConfigError(f"{source}: wanted host:port with --proxy-protocol, got a file")
    if source == "-":
        return _parsed("standard input", sys.stdin.buffer.read(_MOST_BYTES + 1))
    path = Path(source)
    if not path.exists():
        try:
            address = Address.parse(source)
        except RequestError as error:
            raise ConfigError(f"{source}: wanted a file that exists, - or host:port") from error
        first = _PROXY_HEADERS[proxy_protocol] if proxy_protocol is not None else b""
        server = look_at_unverified_server(address, _SECONDS, first=first)
        return Chain(str(address), server.chain, server=server)
    try:
        with path.open("rb") as file:
            return _parsed(source, file.read(_MOST_BYTES + 1))
    except OSError as error:
        raise ConfigError(f"{source}: wanted a file to read: {error.strerror}") from error


def _parsed(source: str, data: bytes) -> Chain:
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{source}: wanted at most {_MOST_BYTES} bytes, got more")
    notes: list[str] = []
    is_pem = _BEGIN in data
    try:
        ders = _from_pem(data, notes) if is_pem else [whole for _, _, whole in elements(data)]
    except ValueError as error:
        if not is_pem and not data.startswith(_SEQUENCE):
            raise ConfigError(f"{source}: wanted certificates, got neither PEM nor DER certificates") from error
        raise ConfigError(f"{source}: wanted certificates, as PEM or DER: {error}") from error
    if not ders:
        raise ConfigError(f"{source}: wanted certificates, as PEM or DER, got none")
    if len(ders) > _MOST_CERTIFICATES:
        notes.append(f"{len(ders) - _MOST_CERTIFICATES} more certificates are not shown")
    return Chain(source, tuple(ders[:_MOST_CERTIFICATES]), tuple(notes))


def _from_pem(data: bytes, notes: list[str]) -> list[bytes]:
    ders: list[bytes] = []
    label, body = b"", bytearray()
    for raw in data.split(b"\n"):
        line = raw.strip()
        if line.startswith(_BEGIN) and line.endswith(_LABEL_END):
            label, body = line[len(_BEGIN) : -len(_LABEL_END)], bytearray()
            if label.endswith(b"PRIVATE KEY") and _PRIVATE_KEY not in notes:
                notes.append(_PRIVATE_KEY)
        elif line.startswith(_END):
            if label in _LABELS:
                try:
                    ders.append(base64.b64decode(bytes(body), validate=True))
                except binascii.Error as error:
                    raise ValueError(f"PEM block {len(ders)}: {error}") from error
            label = b""
        elif label:
            body += line
    return ders


def inspect_chain(chain: Chain, out: Output, now: datetime, bundle_file: Path | None) -> int:
    """Print the chain as of this time. Returns 0 if every rule is kept, and the path holds if there is a bundle."""
    judged = _judged(chain, now)
    of_chain = _chain_rulings(chain, judged[0], now, bundle_file)
    rulings_of_all = (*of_chain, *(ruling for one in judged for ruling in one.rulings))
    broken = sum(one.broken is not None for one in rulings_of_all)
    record: dict[str, object] = {
        "source": chain.source,
        "time": format_moment(now),
        "good": not broken,
        "certificates": [_record(one) for one in judged],
        "chain": [one.record() for one in of_chain],
        "notes": list(chain.notes),
    }
    if chain.server is not None:
        record["server"] = {
            "tls_version": chain.server.version,
            "cipher": chain.server.cipher,
            "wants_certificate": chain.server.wants_certificate,
            "ended": chain.server.ended,
        }
    out.record(record, "\n".join(_text(chain, judged, of_chain, broken, now)))
    return 1 if broken else 0


def _judged(chain: Chain, now: datetime) -> list[_Judged]:
    found = [describe(der) for der in chain.ders]
    presented = [_as_presented(one) for one in found]
    judged = []
    for place, (one, outline) in enumerate(zip(found, presented, strict=True)):
        # A server presents a leaf first, whatever it is. A file may have CAs alone.
        is_leaf = place == 0 and (chain.server is not None or not _is_ca(one))
        told = _Judged(one, "leaf" if is_leaf else "signer")
        judged.append(told)
        if one.certificate is None:
            told.rulings.append(_Ruling("a certificate", "RFC 5280, section 4.1", one.unreadable))
            continue
        rules = LEAF_RULES if is_leaf else SIGNING_RULES
        told.rulings += [_Ruling(rule.text, rule.section, broken) for rule, broken in rulings(rules, one.certificate)]
        if outline is None:
            told.rulings.append(_Ruling("its fields can be read", "RFC 5280, section 4.1", "they can't"))
            continue
        told.rulings.append(_Ruling("valid now", "RFC 5280, section 4.1.2.5", time_violation(outline, now)))
        told.time = _time_left(outline, now)
        told.issued_by = _issuer(place, presented)
    return judged


def _as_presented(one: Description) -> Presented | None:
    try:
        return Presented.of(one.certificate) if one.certificate is not None else None
    except PARSE_ERRORS:
        return None


def _is_ca(one: Description) -> bool:
    try:
        found = extension_of(one.certificate, x509.BasicConstraints) if one.certificate is not None else None
    except PARSE_ERRORS:
        return False
    return found is not None and found.value.ca


def _issuer(place: int, presented: Sequence[Presented | None]) -> str:
    """Which of the certificates signed this one, in words."""
    mine = presented[place]
    for other, one in enumerate(presented):
        if mine is None or one is None or not mine.names_as_issuer(one):
            continue
        try:
            usable = key_violation(one.spki) is None
        except ValueError:
            continue
        if usable and signature_holds(mine.certificate, one.certificate):
            return "itself" if other == place else f"certificate {other}"
    return "none of these"


def _time_left(one: Presented, now: datetime) -> str:
    def span(time: timedelta) -> str:
        return duration_text(timedelta(seconds=int(time.total_seconds())))

    if now < one.not_before:
        return f"valid in {span(one.not_before - now)}"
    if now > one.not_after:
        return f"expired {span(now - one.not_after)} ago"
    return f"{span(one.not_after - now)} left of {span(one.not_after - one.not_before)}"


def _chain_rulings(chain: Chain, first: _Judged, now: datetime, bundle_file: Path | None) -> list[_Ruling]:
    """What holds for the whole: its size, and its path to an authority of the bundle."""
    found = []
    if first.role == "leaf":
        found.append(_Ruling("within the limits of a peer's chain", _LIMITS, _limit_violation(chain)))
    if bundle_file is not None:
        path = f"a path to an authority of {bundle_file}"
        found.append(_Ruling(path, "X509-SVID, section 5", _path_violation(chain, first, now, bundle_file)))
    return found


def _limit_violation(chain: Chain) -> str | None:
    try:
        read_presented(chain.ders)
    except InvalidSvidError as error:
        return str(error)
    return None


def _path_violation(chain: Chain, first: _Judged, now: datetime, file: Path) -> str | None:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"--bundle {file}: wanted a file to read: {error.strerror}") from error
    domain = _trust_domain(first)
    if domain is None:
        return "the leaf has no SPIFFE ID, which names the trust domain whose bundle counts"
    try:
        is_json = data.lstrip().startswith(b"{")
        bundle = TrustBundle.from_jwks(domain, data) if is_json else TrustBundle.from_pem(domain, data)
    except BundleError as error:
        raise ConfigError(f"--bundle {file}: {error}") from error
    try:
        verify_peer(chain.ders, BundleSet([bundle]), now)
    except PeerError as error:
        return str(error)
    return None


def _trust_domain(first: _Judged) -> TrustDomain | None:
    certificate = first.described.certificate
    try:
        names = uri_names(certificate) if certificate is not None else []
        return SpiffeId.parse(names[0]).trust_domain if names else None
    except (InvalidSpiffeIdError, *PARSE_ERRORS):
        return None


def _record(one: _Judged) -> dict[str, object]:
    return {
        "role": one.role,
        **one.described.fields,
        "issued_by": one.issued_by,
        "time": one.time,
        "rules": [ruling.record() for ruling in one.rulings],
    }


def _text(
    chain: Chain, judged: Sequence[_Judged], of_chain: Sequence[_Ruling], broken: int, now: datetime
) -> list[str]:
    count = len(judged)
    lines = [f"{chain.source}: {count} certificate{'s' * (count != 1)}, as of {format_moment(now)}"]
    if chain.server is not None:
        server = chain.server
        over = (
            f"over {server.version} with {server.cipher}" if server.version else f"the handshake ended: {server.ended}"
        )
        lines.append(f"  presented {over}; nothing of it was trusted")
        lines.append(
            f"  the server {'wants' if server.wants_certificate else 'does not ask for'} a certificate of ours"
        )
    lines += [f"  note: {note}" for note in chain.notes]
    for place, one in enumerate(judged):
        lines += ["", f"certificate {place}, {'the leaf' if one.role == 'leaf' else 'a signer'}"]
        shown = dict(one.described.fields)
        if serial := shown.pop("openssl_serial", ""):
            shown["serial"] = f"{shown['serial']} (openssl: {serial})"
        if one.time:
            shown["not_after"] = f"{shown['not_after']} ({one.time})"
        if one.issued_by:
            shown["issued_by"] = one.issued_by
        for name, value in shown.items():
            for text in value if isinstance(value, list) else [value]:
                # One line each: a line feed in a name must not look like the next field.
                lines.append(f"  {_LABELS_OF.get(name, name.replace('_', ' ')):<{_WIDTH}}{printable(text)}")
        lines += [f"  {printable(str(ruling))}" for ruling in one.rulings]
    if of_chain:
        lines += ["", "the chain", *(f"  {printable(str(ruling))}" for ruling in of_chain)]
    told = f"{broken} rule{'s are' if broken != 1 else ' is'} broken" if broken else "every rule is kept"
    return [*lines, "", f"{mark_text(Mark.FAILED if broken else Mark.PASSED)} {told}"]
