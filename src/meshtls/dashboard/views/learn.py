"""One TLS handshake step by step, from the real bytes of one of the newest, with what each message proves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509

from meshtls.dashboard.model import Model
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.x509 import format_moment, format_serial
from meshtls.wire.handshake_fields import fields_of, message_name
from meshtls.wire.tls import TLS_1_3, HandshakeType, alert_name, certificates_of_message
from meshtls.x509_names import name_text

__all__ = ["learn"]

Record = Mapping[str, Any]
_MOST_HEX, _MOST_CERTIFICATES = 512, 8
#: What each message proves, by its name and who sends it.
_PROVES = {
    ("ClientHello", "client"): "Nothing yet. It offers versions, cipher suites and the client's public key shares. Its"
    " first 8 random bytes are the connection's ID here, since both sides know them.",
    ("ServerHello", "server"): "Nothing yet. It selects version and cipher suite and has the server's key share: from"
    " here on both sides have the same secret, and all that follows is encrypted.",
    ("EncryptedExtensions", "server"): "Nothing. It answers the extensions that need no cryptography, such as the"
    " protocol to speak (ALPN).",
    (
        "CertificateRequest",
        "server",
    ): "Nothing. The server asks the client for a certificate: this makes the TLS mutual.",
    ("Certificate", "server"): "Nothing by itself: anybody can send it. It has the server's SVID with its chain, which"
    " the client now verifies up to a root of the bundle of the server's trust domain, and then authorizes.",
    ("CertificateVerify", "server"): "The server holds the private key of its SVID: only that key makes this signature"
    " over all messages so far.",
    ("Finished", "server"): "Nobody has changed a message on the way: it is a MAC over all of them, by a key that only"
    " the two ends have.",
    ("Certificate", "client"): "Nothing by itself. It has the client's SVID with its chain, which the server now"
    " verifies and authorizes. If it refuses, it sends an alert, and the client's application has sent no byte.",
    ("CertificateVerify", "client"): "The client holds the private key of its SVID. Only now does the identity count.",
    ("Finished", "client"): "Nobody has changed a message on the way. The server now knows its peer, and application"
    " bytes may flow to the app.",
}
_REFUSED = "Its sender refuses, and ends the handshake. No byte of an application was sent to the app."


def learn(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """``words``: ``id`` of one of the ``handshakes``; without it, the newest that ended well, or else the newest."""
    found = sorted(_decisive(model), key=lambda one: str(one["ended"]), reverse=True)
    shown = None
    if found:
        wanted = words.get("id", "")
        named = [one for one in found if one["connection_id"] == wanted] if wanted else []
        shown = next(iter(named or [one for one in found if one["finished"]] or found))
    return {
        "handshakes": [
            {name: one[name] for name in ("connection_id", "process", "direction", "ended", "finished")}
            for one in found
        ],
        "shown": None if shown is None else {**shown, "messages": [_step(shown, one) for one in shown["messages"]]},
    }


def _decisive(model: Model) -> list[dict[str, Any]]:
    """One of each connection: the server's, where it is there. In TLS 1.3 a client finishes before the server has
    verified it, and does not know yet that it is refused.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in _handshakes(model):
        if one["connection_id"] not in found or one["direction"] == "inbound":
            found[one["connection_id"]] = one
    return list(found.values())


def _handshakes(model: Model) -> Iterator[dict[str, Any]]:
    for process in model.sidecars:
        for one in process.pages.get("/handshakes", {}).get("handshakes", ()):
            if one["messages"]:
                yield {**one, "process": process.name}


def _step(handshake: Record, message: Record) -> dict[str, Any]:
    client_sent = message["sent"] == (handshake["direction"] == "outbound")
    sender = "client" if client_sent else "server"
    if message["alert"]:
        name = f"Alert: {alert_name(message['type'])}"
        return {"sender": sender, "name": name, "alert": True, "length": 2, "fields": [], "proves": _REFUSED, "hex": ""}
    name, data = message_name(message["type"]), bytes.fromhex(message["hex"])
    fields = fields_of(message["type"], data)
    if message["type"] == HandshakeType.CERTIFICATE:
        fields += _certificates(data)
    return {
        "sender": sender,
        "name": name,
        "alert": False,
        "length": message["length"],
        "fields": fields,
        "proves": _PROVES.get((name, sender), ""),
        "hex": data[:_MOST_HEX].hex(),
    }


def _certificates(message: bytes) -> Iterator[tuple[str, str]]:
    try:
        for place, der in enumerate(certificates_of_message(TLS_1_3, message, limit=_MOST_CERTIFICATES)):
            one = x509.load_der_x509_certificate(der)
            names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value if place == 0 else None
            uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
            who = ", ".join(uris) or name_text(one.subject)
            until = format_moment(one.not_valid_after_utc)
            yield ("leaf" if place == 0 else "issuer"), f"{who}, serial {format_serial(one)}, until {until}"
    except (*PARSE_ERRORS, x509.ExtensionNotFound):
        yield "certificates", "one of them can't be decoded"
