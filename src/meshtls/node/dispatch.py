"""Answers a message: with its reply or, for a handshake, with the Attempt to make. Does no I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.errors import InvalidSpiffeIdError, RequestError
from meshtls.node.call import request_bytes
from meshtls.node.documents import policies_in
from meshtls.node.identity import verify_identity
from meshtls.node.mesh import Attempt, Mesh
from meshtls.node.messages import (
    DEFAULT_SERVER,
    ErrorCode,
    Handshake,
    IssueCertificate,
    Message,
    Policy,
    Reply,
    Rotate,
    VerifyIdentity,
    bounded,
    error_reply,
)
from meshtls.scalars import workload_id

__all__ = ["answer", "failure_reply"]


def answer(message: Message, mesh: Mesh) -> Reply | Attempt:
    """Do what the message asks. Of a handshake, only what must be decided before the next message is read."""
    try:
        match message:
            case Handshake():
                place = message.namespace, message.trust_domain
                client = mesh.id_of(message.client, *place)
                server = mesh.id_of(DEFAULT_SERVER if message.server is None else message.server, *place)
                attempt = mesh.attempt(client, server, message.cert, message.server_cert)
                if message.request is not None:
                    request_bytes(message.request, server.segments[-1])
                return replace(attempt, request=message.request, plaintext=message.plaintext)
            case IssueCertificate():
                return _issue(message, mesh)
            case VerifyIdentity():
                return _verify(message)
            case Rotate():
                return _rotate(message, mesh)
            case Policy():
                return _policy(message, mesh)
    except RequestError as error:
        return error_reply(message.msg_id, ErrorCode.MALFORMED, f"{_type(message)}: {error}")
    raise TypeError(f"wanted one of the messages, got {message!r}")


def failure_reply(content: Message | Reply) -> Reply:
    """The reply to a message, or to a line that got an error reply already, when the node itself failed."""
    about = _type(content) if isinstance(content, Message) else "line"
    msg_id = content.msg_id if isinstance(content, Message) else content.get("in_reply_to")
    text = f"{about}: internal error of the node; the traceback is in its log, on standard error"
    return error_reply(msg_id, ErrorCode.MALFORMED, text)


def _issue(message: IssueCertificate, mesh: Mesh) -> Reply:
    spiffe_id = mesh.id_of(message.service, message.namespace, message.trust_domain)
    if message.csr is None:
        chain = mesh.mint(spiffe_id, message.ttl).svid.chain
    else:
        chain = mesh.certify(spiffe_id, message.csr, message.ttl)
    return {
        "type": "certificate_issued",
        "in_reply_to": message.msg_id,
        "service": message.service,
        "certificate": b"".join(one.public_bytes(Encoding.PEM) for one in chain).decode("ascii"),
        "expiry": _timestamp(chain[0].not_valid_after_utc),
        "spiffe_id": str(spiffe_id),
    }


def _verify(message: VerifyIdentity) -> Reply:
    reply = {"in_reply_to": message.msg_id}
    try:
        named = verify_identity(message.spiffe_id, message.trust_domain, message.service, message.namespace)
    except InvalidSpiffeIdError as error:
        return {"type": "identity_invalid", **reply, "valid": False, "reason": bounded(str(error))}
    return {
        "type": "identity_valid",
        **reply,
        "valid": True,
        "service": named.service,
        "namespace": named.namespace,
    }


def _rotate(message: Rotate, mesh: Mesh) -> Reply:
    spiffe_id = mesh.id_of(message.service, message.namespace, message.trust_domain)
    old, new = mesh.rotate(spiffe_id)
    return {
        "type": "rotated",
        "in_reply_to": message.msg_id,
        "service": message.service,
        "old_serial": old.serial,
        "new_serial": new.serial,
        "old_expiry": _timestamp(old.not_after),
        "expiry": _timestamp(new.not_after),
        "spiffe_id": str(spiffe_id),
    }


def _policy(message: Policy, mesh: Mesh) -> Reply:
    server = mesh.id_of(message.server, message.namespace, message.trust_domain)
    allow = [
        workload_id(one) if "://" in one else mesh.id_of(one, message.namespace, message.trust_domain)
        for one in (message.allow if message.allow is not msgspec.UNSET else ())
    ]
    reply: Reply = {"type": "policy_set", "in_reply_to": message.msg_id, "server": message.server}
    if message.documents is msgspec.UNSET:
        mesh.set_policy(server, allow)
        return {**reply, "allow": [str(one) for one in allow], "spiffe_id": str(server)}
    policies = policies_in(message.documents, server, tuple(message.labels.items()))
    mesh.set_policy(server, None if message.allow is msgspec.UNSET else allow, policies)
    found = policies.documents
    metas = [("AuthorizationPolicy", one.meta) for one in found.authorization_policies]
    metas += [("PeerAuthentication", one.meta) for one in found.peer_authentications]
    return {
        **reply,
        "allow": [str(one) for one in allow],
        "documents": [f"{kind} {meta.namespace}/{meta.name}" for kind, meta in metas],
        "spiffe_id": str(server),
    }


def _type(message: Message) -> str:
    return str(message.__struct_config__.tag)


def _timestamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
