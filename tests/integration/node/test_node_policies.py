"""The policy message with Istio's documents, and HTTP requests through the sidecars."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshtls.node.call import request_bytes
from meshtls.node.decode import decode
from meshtls.node.messages import HttpCall
from tests.integration.node.harness import Body, ask

PLACE = {"namespace": "shop", "trust_domain": "a.test"}
ALLOW_GET = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "readers"},
    "spec": {
        "rules": [
            {
                "from": [{"source": {"principals": ["a.test/ns/shop/sa/client"]}}],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/items/*"]}}],
            }
        ]
    },
}
STRICT = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""
PERMISSIVE = STRICT.replace("STRICT", "PERMISSIVE")


def policy(documents: Any, number: int = 1, **more: Any) -> Body:
    return {"type": "policy", "msg_id": number, "server": "web", "documents": documents, **PLACE, **more}


def call(number: int, client: str = "client", **more: Any) -> Body:
    return {"type": "handshake", "msg_id": number, "client": client, "server": "web", **PLACE, **more}


def test_a_document_decides_on_http_requests_and_each_reply_names_policy_rule_and_clause() -> None:
    replies = ask(
        policy(ALLOW_GET),
        call(2, request={"path": "/items/1"}),
        call(3, request={"path": "/items/1", "method": "PUT"}),
        call(4, "other", request={"path": "/items/1"}),
        call(5, request={"path": "/other/../items/1?q=1", "headers": {"x-a": "b"}}),
        call(6, request={"path": "/items/%00"}),
        call(7),
    )

    assert replies[1] == {
        "type": "policy_set",
        "in_reply_to": 1,
        "server": "web",
        "allow": [],
        "documents": ["AuthorizationPolicy shop/readers"],
        "spiffe_id": "spiffe://a.test/ns/shop/sa/web",
    }
    allowed = {"status": 200, "policy": "ns[shop]-policy[readers]", "rule": "0"}
    for number in (2, 5):
        assert replies[number]["type"] == "handshake_complete"
        assert {name: replies[number].get(name) for name in allowed} == allowed
    assert replies[3] == {
        "type": "handshake_failed",
        "in_reply_to": 3,
        "reason": "Not authorized",
        "success": False,
        "detail": (
            "denied: no ALLOW rule matches. The peer is a.test/ns/shop/sa/client; the request is PUT /items/1, on port"
            f" {_port(replies[3])}. The nearest is ns[shop]-policy[readers]-rule[0] (documents[0], line 1:"
            " spec.rules[0]), which fails in operation.methods: wanted GET, got PUT. Send what the rule wants, or add a"
            " rule that allows this."
        ),
        "refused": "client",
        "status": 403,
        "clause": "operation.methods: wanted GET, got PUT",
    }
    assert (replies[4]["status"], replies[4]["reason"]) == (403, "Not authorized")
    assert replies[4]["clause"].startswith("source.principals: wanted a.test/ns/shop/sa/client, got")
    assert (replies[6]["success"], replies[6]["status"]) == (False, 400)
    # Without a request its bytes are not read, and an ALLOW rule with fields of HTTP allows nothing.
    assert (replies[7]["success"], replies[7].get("status")) == (False, None)


def _port(reply: Body) -> str:
    return str(reply["detail"]).partition("on port ")[2].partition(".")[0]


def test_peer_authentication_decides_on_plaintext() -> None:
    replies = ask(
        policy(STRICT),
        call(2, plaintext=True),
        call(3),
        policy(PERMISSIVE, 4),
        call(5, plaintext=True),
        policy([ALLOW_GET], 6),
        call(7, plaintext=True, request={"path": "/items/1"}),
    )

    assert (replies[2]["type"], replies[2]["reason"]) == ("handshake_failed", "Handshake failed")
    assert replies[3]["success"] is True
    assert (replies[5]["success"], replies[5]["cipher_suite"]) == (True, None)
    assert (replies[7]["success"], replies[7]["status"]) == (False, 403)


def test_a_selector_is_matched_with_the_labels_of_the_message() -> None:
    selecting = {**ALLOW_GET, "spec": {**ALLOW_GET["spec"], "selector": {"matchLabels": {"app": "web"}}}}  # type: ignore[dict-item]
    replies = ask(
        policy(selecting, labels={"app": "web"}),
        call(2, "other", request={}),
        policy(selecting, 3),
        call(4, "other", request={}),
    )

    assert (replies[2]["success"], replies[4]["success"]) == (False, True)


def test_allow_beside_documents_is_one_more_policy() -> None:
    replies = ask(policy(STRICT, allow=["client"]), call(2), call(3, "other"))

    assert (replies[2]["success"], replies[3]["success"]) == (True, False)
    assert replies[2]["rule"] == "0"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (policy("kind: x"), "policy: documents, line 1: apiVersion: wanted a document of"),
        (policy([]), "policy: documents: wanted AuthorizationPolicy and PeerAuthentication documents, got none"),
        (
            policy(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "DestinationRule",
                    "metadata": {"name": "d"},
                    "spec": {"host": "*.local"},
                }
            ),
            "policy: documents: wanted AuthorizationPolicy and PeerAuthentication documents, got DestinationRule",
        ),
        (policy(3), "policy: Expected `"),
        (
            call(1, request={"path": "/a b"}),
            "handshake: request.path: wanted printable ASCII without spaces, got '/a b'",
        ),
        (
            call(1, request={"headers": {"content-length": "1"}}),
            "handshake: request.headers: wanted the name of a header that frames nothing, got 'content-length'",
        ),
    ],
)
def test_an_invalid_document_or_request_is_answered_with_its_fault(message: Body, text: str) -> None:
    reply = ask(message)[1]

    assert (reply["type"], reply["code"]) == ("error", 12)
    assert reply["text"].startswith(text)


@pytest.mark.parametrize(("enveloped", "place"), [(False, "$"), (True, "$.body")])
def test_a_policy_without_allow_and_documents_is_answered_with_both_names(enveloped: bool, place: str) -> None:
    message: Body = {"type": "policy", "msg_id": 1, "server": "a"}
    line = json.dumps({"src": "x", "dest": "y", "body": message} if enveloped else message).encode()

    content = decode(line).content

    assert isinstance(content, dict)
    assert content["text"] == f"policy: Object missing required field `allow` or `documents` - at `{place}`"


def test_a_request_is_written_with_its_own_fields_only() -> None:
    call = HttpCall(method="POST", path="/a?b", headers={"x-a": "1"})

    assert request_bytes(call, "web") == b"POST /a?b HTTP/1.1\r\nhost: web\r\nconnection: close\r\nx-a: 1\r\n\r\n"


def test_a_header_of_a_request_is_written_as_utf_8() -> None:
    call = HttpCall(headers={"x-team": "Köln €"})

    assert "\r\nx-team: Köln €\r\n".encode() in request_bytes(call, "web")
