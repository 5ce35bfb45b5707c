"""What `meshtls explain connection` tells: whole stories of connections and of the requests on them."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.admin.story import stories

WEB, ORDERS = "spiffe://a.test/web", "spiffe://a.test/orders"


def side(direction: str, outcome: str = "OK", verdict: str = "allowed", **changed: Any) -> dict[str, Any]:
    """A sidecar's record of the connection."""
    record = {
        "connection_id": "1f",
        "time": "2030-05-01T12:00:00Z",
        "sidecar": "web" if direction == "outbound" else "orders",
        "direction": direction,
        "verdict": verdict,
        "outcome": outcome,
        "reason": "the connection was allowed and closed by both sides",
        "detail": "closed by both sides",
        "source_id": WEB,
        "destination_id": ORDERS,
        "remote": "127.0.0.1:15006",
        "security": "mutual_tls",
        "total_ms": 2.0,
        "bytes_in": 4,
        "bytes_out": 2,
    }
    return record | changed


def request(status: int = 200, outcome: str = "OK", verdict: str = "allowed", **changed: Any) -> dict[str, Any]:
    """The server's record of a request on it."""
    asked = {"method": "GET", "host": "orders", "path": "/secret", "status": status}
    return side("inbound", outcome, verdict, detail="the words of the policy") | asked | changed


DENIED = request(403, "POLICY_DENIED", "denied", clause="operation.paths")
DOWN = request(503, "CONNECT_FAILED", "failed", detail="127.0.0.1:8080 can't be reached: Connection refused")
BOTH = (side("outbound"), side("inbound"))
HEAD = [
    "connection 1f",
    f"  from:    {WEB}",
    f"  to:      {ORDERS}",
    "  began:   2030-05-01T12:00:00+00:00 by the caller's clock, 0.000 s later by the server's clock",
    "  caller:  web: OK after 2 ms, 4 bytes in, 2 out",
    "  server:  orders: OK after 2 ms, 4 bytes in, 2 out",
]
EXPLAIN = f"meshtls policy explain --from {WEB} --config FILE"


def told(*lines: dict[str, Any]) -> list[str]:
    (story,) = stories("1f", lines)
    return list(story.lines())


def test_a_connection_without_a_failure_is_ok() -> None:
    assert told(*BOTH) == [
        *HEAD,
        "  cause:   OK: the connection was allowed and closed by both sides",
        "           closed by both sides",
        "  next:    nothing: it was allowed, and both sides closed it",
    ]


def test_a_denied_request_is_the_cause_of_a_connection_that_was_fine() -> None:
    assert told(*BOTH, DENIED) == [
        *HEAD,
        "  request: GET orders/secret 403 POLICY_DENIED: the words of the policy",
        "  cause:   the connection was fine; 1 of 1 request was denied: POLICY_DENIED: the policies of"
        f" {ORDERS} do not allow this HTTP request of {WEB}",
        "           the words of the policy",
        f"  next:    if it is to be allowed, allow this request in a policy of {ORDERS}; `{EXPLAIN} --path /secret`"
        " shows what decides",
    ]


@pytest.mark.parametrize(
    ("requests", "cause", "step"),
    [
        ([request()], "OK: the connection was allowed and closed by both sides", "nothing: it was allowed"),
        (
            [request(), DOWN, DOWN | {"time": "2030-05-01T12:00:01Z"}],
            "the connection was fine; 2 of 3 requests were not served: CONNECT_FAILED:"
            f" {ORDERS} could not reach its app",
            f"see whether the app of {ORDERS} listens at the address in the detail",
        ),
        (
            [DOWN, DENIED],
            "the connection was fine; 1 of 2 requests was denied: POLICY_DENIED: the policies of",
            "if it is to be allowed, allow this request in a policy",
        ),
    ],
    ids=["served", "app down", "denied and app down"],
)
def test_the_cause_is_what_most_of_all_kept_a_request_from_being_served(
    requests: list[dict[str, Any]], cause: str, step: str
) -> None:
    lines = told(*BOTH, *requests)
    assert [line for line in lines if line.startswith(f"  cause:   {cause}")]
    assert [line for line in lines if line.startswith(f"  next:    {step}")]


def test_no_request_is_the_cause_of_a_connections_failure() -> None:
    failed = side("inbound", "POLICY_DENIED", "denied", detail="the policy was changed")
    lines = told(side("outbound"), failed, DENIED)
    assert f"  cause:   POLICY_DENIED: {ORDERS} refused {WEB}, whose identity is not allowed" in lines


def test_a_denied_request_on_a_connection_that_lives_is_told() -> None:
    live = {name: value for name, value in side("inbound").items() if name not in ("outcome", "verdict", "time")}
    lines = told(live | {"started": "2030-05-01T12:00:00Z", "state": "relaying"}, DENIED)
    assert "  it lives" in lines
    assert [line for line in lines if line.startswith("  cause:   the connection is fine; 1 of 1 request was denied: ")]


def test_a_request_whose_connection_has_no_record_yet_is_told() -> None:
    assert [line for line in told(DENIED) if line.startswith("  cause:   POLICY_DENIED: the policies of")]


def test_without_the_servers_side_nothing_is_said_of_requests() -> None:
    assert told(side("outbound"))[-3:] == [
        "  cause:   OK: the connection was allowed and closed by both sides; nothing is known of its HTTP requests",
        "           closed by both sides",
        "  next:    ask the server's sidecar, too: only it reads HTTP requests",
    ]


def test_a_server_outside_of_the_mesh_has_no_sidecar_to_ask() -> None:
    assert told(side("outbound", destination_id=None, security="tls"))[-1].startswith("  next:    nothing")


def test_a_request_of_other_ids_is_no_part_of_the_connection() -> None:
    lines = told(*BOTH, DENIED | {"source_id": "spiffe://a.test/other"})
    assert "  cause:   OK: the connection was allowed and closed by both sides" in lines


def test_a_wrong_server_is_the_callers_to_correct() -> None:
    words = f"the server is {ORDERS}; expected: spiffe://a.test/db"
    assert told(side("outbound", "POLICY_DENIED", "denied", detail=words))[-3:] == [
        f"  cause:   POLICY_DENIED: {WEB} refused {ORDERS}, which is another server than it expected",
        f"           {words}",
        "  next:    correct outbound[].peer (or to) in the file of sidecar web",
    ]


SERIALS = ({"local_serial": "0a", "peer_serial": "0b"}, {"local_serial": "0b", "peer_serial": "0a"})


def test_a_client_hello_that_a_stranger_sends_again_is_a_story_of_its_own() -> None:
    near, far = (one | serials for one, serials in zip(BOTH, SERIALS, strict=True))
    replayed = side("inbound", "HANDSHAKE_FAILED", "failed", source_id=None, time="2030-05-01T12:00:01Z")
    found = stories("1f", [replayed, near, far, request()])
    assert [(story.near, story.far) for story in found] == [(None, replayed), (near, far)]
    assert [len(story.requests) for story in found] == [0, 1]
    assert "  cause:   OK: the connection was allowed and closed by both sides" in list(found[1].lines())


def test_the_record_with_the_callers_certificate_is_joined_where_two_name_the_same_ids() -> None:
    near, far = (one | serials for one, serials in zip(BOTH, SERIALS, strict=True))
    other = far | {"peer_serial": "0c"}
    assert {(id(story.near), id(story.far)) for story in stories("1f", [other, near, far])} == {
        (id(near), id(far)),
        (id(None), id(other)),
    }


def test_a_caller_that_failed_is_joined_with_a_server_that_never_knew_who_called() -> None:
    near = side("outbound", "HANDSHAKE_FAILED", "failed", destination_id=None)
    far = side("inbound", "HANDSHAKE_FAILED", "failed", source_id=None)
    (story,) = stories("1f", [near, far])
    assert (story.near, story.far) == (near, far)
