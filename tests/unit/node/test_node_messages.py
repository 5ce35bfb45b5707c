"""From a line to a message, or to the error reply."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.node.decode import Oversized, decode
from meshtls.node.messages import (
    ErrorCode,
    Handshake,
    IssueCertificate,
    Message,
    Policy,
    Rotate,
    VerifyIdentity,
    encode,
    error_reply,
)

KINDS = "handshake, issue_certificate, verify_identity, rotate, policy"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"type": "handshake", "msg_id": 1, "client": "a", "server": "b"},
            Handshake(msg_id=1, client="a", server="b"),
        ),
        (
            {"type": "handshake", "msg_id": 4, "client": "a", "cert": "x", "namespace": "ns-1", "trust_domain": "d"},
            Handshake(msg_id=4, client="a", cert="x", namespace="ns-1", trust_domain="d"),
        ),
        (
            {"type": "issue_certificate", "msg_id": 2, "service": "a", "ttl": 60},
            IssueCertificate(msg_id=2, service="a", ttl=60.0),
        ),
        (
            {"type": "verify_identity", "msg_id": 3, "spiffe_id": "s", "trust_domain": "d"},
            VerifyIdentity(msg_id=3, spiffe_id="s", trust_domain="d"),
        ),
        ({"type": "rotate", "msg_id": 5, "service": "a"}, Rotate(msg_id=5, service="a")),
        ({"type": "policy", "msg_id": 6, "server": "a", "allow": []}, Policy(msg_id=6, server="a", allow=[])),
    ],
)
def test_each_message_is_read_bare_and_in_an_envelope(body: dict[str, Any], message: Message) -> None:
    enveloped = decode(json.dumps({"src": "c1", "dest": "n1", "body": body}).encode())

    assert decode(json.dumps(body).encode()).content == message
    assert enveloped.content == message
    assert enveloped.wrap({"type": "x"}) == {"src": "n1", "dest": "c1", "body": {"type": "x"}}


def test_a_bare_message_gets_a_bare_reply() -> None:
    request = decode(b'{"type": "rotate", "msg_id": 5, "service": "a"}')

    assert request.wrap({"type": "x"}) == {"type": "x"}


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        (b'{"type": "rotate", "msg_id": 5, "service": "a"}', ()),
        (b'{"type": "rotate", "msg_id": 5, "service": "a", "colour": "red"}', ("rotate.colour",)),
        (
            b'{"src": "c", "id": 1, "body": {"type": "rotate", "msg_id": 5, "service": "a", "ttl": 1, "x": null}}',
            ("envelope.id", "rotate.ttl", "rotate.x"),
        ),
    ],
)
def test_unknown_fields_are_ignored_and_named(line: bytes, unknown: tuple[str, ...]) -> None:
    request = decode(line)

    assert request.content == Rotate(msg_id=5, service="a")
    assert request.unknown == unknown


def test_an_unknown_field_of_a_policy_without_documents_is_ignored_and_named() -> None:
    request = decode(b'{"type": "policy", "msg_id": 5, "server": "a", "allow": ["b"], "colour": "red"}')

    assert request.content == Policy(msg_id=5, server="a", allow=["b"])
    assert request.unknown == ("policy.colour",)


@pytest.mark.parametrize(
    ("line", "in_reply_to", "code", "text"),
    [
        (
            b'{"type": "policy", "msg_id": 3, "server": "a", "mode": "STRICT", "allow": []}',
            3,
            12,
            "policy: unknown field 'mode'; what a policy says stands in `documents` - at `$`",
        ),
        (
            b'{"body": {"type": "policy", "msg_id": 3, "server": "a", "documents": "", "colour": 1}}',
            3,
            12,
            "policy: unknown field 'colour'; what a policy says stands in `documents` - at `$.body`",
        ),
        (
            b"nope",
            None,
            12,
            "line: wanted a JSON object, got invalid JSON: Expecting value at character 1",
        ),
        (b'{"a"', None, 12, "line: wanted a JSON object, got invalid JSON: Expecting ':' delimiter at character 5"),
        (b'{"a', None, 12, "line: wanted a JSON object, got invalid JSON: Unterminated string starting at character 2"),
        (
            b'{"msg_id": 1} {}',
            None,
            12,
            "line: wanted a JSON object, got invalid JSON: Extra data at character 15",
        ),
        (
            b'"\xff"',
            None,
            12,
            "line: wanted a JSON object in UTF-8, got the byte 0xff at position 2",
        ),
        (b'{"a": NaN}', None, 12, "line: wanted a JSON object, got invalid JSON: NaN is not a JSON value"),
        (
            b'{"a": ["x", "\\ud83d\\ude00 \\ud800"]}',
            None,
            12,
            "line: wanted characters in each string, got \\ud800, which is half of a surrogate pair",
        ),
        (b'{"a": [1e999]}', None, 12, "line: wanted numbers between -1e308 and 1e308, got '1e999'"),
        pytest.param(
            b'{"a": -' + b"9" * 5000 + b"}",
            None,
            12,
            f"line: wanted numbers between -1e308 and 1e308, got '-{'9' * 59}'... (5001 characters)",
            id="an integer beyond every double",
        ),
        pytest.param(
            *(b"[" * 100_000, None, 12, "line: wanted a JSON object, got one that is nested too deeply"),
            id="nested too deeply",
        ),
        (b"[1]", None, 12, "line: wanted a JSON object, got an array"),
        (b"null", None, 12, "line: wanted a JSON object, got null"),
        (b"3", None, 12, "line: wanted a JSON object, got a number"),
        (Oversized.LINE, None, 12, "line: wanted at most 1048576 bytes, got more; it was skipped"),
        (b"{}", None, 12, "message: wanted a string in `type`, got none - at `$`"),
        (b'{"type": 7, "msg_id": 1}', 1, 12, "message: wanted a string in `type`, got a number - at `$`"),
        (
            b'{"type": "dance", "msg_id": 1}',
            1,
            10,
            f"message: wanted a type of {KINDS}, got 'dance' - at `$.type`",
        ),
        (
            b'{"body": {"type": "dance", "msg_id": 1}}',
            1,
            10,
            f"message: wanted a type of {KINDS}, got 'dance' - at `$.body.type`",
        ),
        pytest.param(
            b'{"type": "' + b"x" * 500_000 + b'", "msg_id": 1}',
            1,
            10,
            f"message: wanted a type of {KINDS}, got '{'x' * 60}'... (500000 characters) - at `$.type`",
            id="a long type",
        ),
        (
            b'{"type": "handshake", "msg_id": 1}',
            1,
            12,
            "handshake: Object missing required field `client` - at `$`",
        ),
        (
            b'{"type": "handshake", "client": "a"}',
            None,
            12,
            "handshake: Object missing required field `msg_id` - at `$`",
        ),
        (
            b'{"type": "handshake", "msg_id": "1", "client": "a"}',
            None,
            12,
            "handshake: Expected `int`, got `str` - at `$.msg_id`",
        ),
        (
            b'{"type": "handshake", "msg_id": true, "client": "a"}',
            None,
            12,
            "handshake: Expected `int`, got `bool` - at `$.msg_id`",
        ),
        (
            b'{"type": "handshake", "msg_id": 1, "client": 2}',
            1,
            12,
            "handshake: Expected `str`, got `int` - at `$.client`",
        ),
        (
            b'{"type": "handshake", "msg_id": 1, "client": "a", "cert": 5}',
            1,
            12,
            "handshake: Expected `str | null`, got `int` - at `$.cert`",
        ),
        (
            b'{"src": "x", "dest": "y", "body": {"type": "policy", "msg_id": 1, "server": "b", "allow": ["a", 3]}}',
            1,
            12,
            "policy: Expected `str`, got `int` - at `$.body.allow[1]`",
        ),
        (
            b'{"type": "issue_certificate", "msg_id": 1, "service": "a", "ttl": 0}',
            1,
            12,
            "issue_certificate: Expected `float` > 0.0 - at `$.ttl`",
        ),
        (
            b'{"type": "issue_certificate", "msg_id": 1, "service": "a", "ttl": "1h"}',
            1,
            12,
            "issue_certificate: Expected `float | null`, got `str` - at `$.ttl`",
        ),
        (
            b'{"type": "handshake", "msg_id": 1, "client": "a", "client": "a"}',
            1,
            12,
            "line: wanted each key once in an object, got 'client' twice",
        ),
        (
            b'{"type": "handshake", "msg_id": 1, "msg_id": 1, "client": "a"}',
            None,
            12,
            "line: wanted each key once in an object, got 'msg_id' twice",
        ),
        (
            b'{"type": "rotate", "msg_id": 1, "service": "a", "more": [{"b": {"c": 1, "c": 2, "c": 3}}]}',
            1,
            12,
            "line: wanted each key once in an object, got 'c' twice",
        ),
        (b'[{"a": 1, "a": 2}]', None, 12, "line: wanted a JSON object, got an array"),
        (b'{"src": "x", "dest": "y"}', None, 12, "envelope: Object missing required field `body` - at `$`"),
        (b'{"src": "x", "body": 7}', None, 12, "envelope: Expected `object`, got `int` - at `$.body`"),
        (b'{"src": 1, "body": {"msg_id": 2}}', 2, 12, "envelope: Expected `str | null`, got `int` - at `$.src`"),
    ],
)
def test_a_malformed_message_is_answered_with_the_fault_and_its_position(
    line: bytes | Oversized, in_reply_to: int | None, code: int, text: str
) -> None:
    assert decode(line).content == {"type": "error", "in_reply_to": in_reply_to, "code": code, "text": text}


BODY = b'{"type": "rotate", "msg_id": 1, "service": "a"}'
TWICE = b'{"type": "rotate", "msg_id": 1, "service": "a", "service": "b"}'


@pytest.mark.parametrize(
    ("line", "src", "dest", "code"),
    [
        (b'{"src": "c1", "dest": "n1", "body": %b}' % BODY, "n1", "c1", None),
        (b'{"src": "c1", "dest": "n1", "body": []}', "n1", "c1", 12),
        (b'{"src": "c1", "dest": "n1"}', "n1", "c1", 12),
        (b'{"src": 1, "dest": "n1", "body": %b}' % BODY, "n1", None, 12),
        (b'{"src": "c1", "dest": {}, "body": %b}' % BODY, None, "c1", 12),
        (b'{"src": "c1", "src": "c2", "dest": "n1", "body": %b}' % BODY, "n1", None, 12),
        (b'{"src": "c1", "dest": "n1", "body": %b}' % TWICE, "n1", "c1", 12),
    ],
)
def test_an_error_about_an_envelope_is_returned_in_an_envelope(
    line: bytes, src: str | None, dest: str | None, code: int | None
) -> None:
    request = decode(line)

    assert request.wrap({}) == {"src": src, "dest": dest, "body": {}}
    assert (None if isinstance(request.content, Message) else request.content["code"]) == code


def test_a_pair_of_surrogates_is_a_character() -> None:
    line = b'{"type": "rotate", "msg_id": 1, "service": "\\ud83d\\ude00"}'

    assert decode(line).content == Rotate(msg_id=1, service="\U0001f600")


def test_every_error_message_is_at_most_a_page() -> None:
    text = error_reply(1, ErrorCode.MALFORMED, "begin" + "a" * 500_000 + "end")["text"]

    assert len(text) == 2000
    assert (text[:5], text[-3:]) == ("begin", "end")


@given(line=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_line_makes_the_decoder_raise(line: bytes) -> None:
    assert decode(line).content


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
FIELDS = ("msg_id", "client", "server", "cert", "service", "ttl", "csr", "allow", "spiffe_id", "trust_domain", "body")


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6),
    kind=st.sampled_from(KINDS.split(", ")) | st.text(),
)
def test_every_object_is_a_message_or_gets_an_error_that_can_be_sent(fields: dict[str, Any], kind: str) -> None:
    content = decode(json.dumps({**fields, "type": kind}).encode()).content

    if not isinstance(content, Message):
        assert content["type"] == "error"
        assert json.loads(encode(content)) == content


def test_a_reply_is_one_ascii_line_with_the_samples_separators() -> None:
    assert encode({"type": "x", "text": "é\n"}) == b'{"type": "x", "text": "\\u00e9\\n"}\n'
