"""The responses of an SDS stream, in both variants of the protocol, request by request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from meshtls.agent.sds_secrets import SECRET_TYPE, NamedSecret
from meshtls.agent.sds_state import DeltaState, WorldState
from meshtls.proto.envoy import discovery_pb as pb
from meshtls.proto.wellknown import Any


def secrets(**versions: str) -> Mapping[str, NamedSecret]:
    return {name: NamedSecret(name, version, Any(value=name.encode())) for name, version in versions.items()}


def asks(*names: str, nonce: str = "", refused: str | None = None) -> pb.DiscoveryRequest:
    detail = None if refused is None else pb.ErrorDetail(code=13, message=refused)
    return pb.DiscoveryRequest(resource_names=names, response_nonce=nonce, error_detail=detail)


def names_in(response: pb.DiscoveryResponse | None) -> list[str] | None:
    return None if response is None else [one.value.decode() for one in response.resources]


# State of the world


def test_no_response_precedes_the_first_request() -> None:
    assert WorldState().response(secrets(a="1")) is None


def test_a_response_holds_the_requested_secrets_that_exist() -> None:
    state = WorldState()
    assert state.take(asks("b", "a", "none", "b")) is None
    response = state.response(secrets(a="1", b="1", c="1"))
    assert response is not None
    assert (names_in(response), response.nonce, response.type_url) == (["b", "a"], "1", SECRET_TYPE)
    assert state.newly_missing(secrets(a="1", b="1")) == ("none",)
    assert state.newly_missing(secrets(a="1", b="1")) == ()


def test_a_first_request_without_names_subscribes_to_everything() -> None:
    state = WorldState()
    state.take(asks())
    assert names_in(state.response(secrets(b="1", a="1"))) == ["a", "b"]


def test_a_wildcard_among_the_names_requests_everything() -> None:
    state = WorldState()
    state.take(asks("a"))
    assert names_in(state.response(secrets(a="1", b="1"))) == ["a"]
    state.take(asks("a", "*", nonce="1"))
    assert names_in(state.response(secrets(a="1", b="1"))) == ["a", "b"]
    assert state.newly_missing(secrets(a="1", b="1")) == ()


def test_a_later_request_without_names_unsubscribes_from_everything() -> None:
    state = WorldState()
    state.take(asks("a"))
    state.response(secrets(a="1"))
    state.take(asks(nonce="1"))
    assert state.response(secrets(a="2")) is None


def test_an_accepted_secret_is_sent_again_only_once_it_changes() -> None:
    state = WorldState()
    state.take(asks("a"))
    first = state.response(secrets(a="1"))
    state.take(asks("a", nonce="1"))
    assert state.response(secrets(a="1", b="9")) is None
    second = state.response(secrets(a="2"))
    assert first is not None
    assert second is not None
    assert (first.nonce, second.nonce) == ("1", "2")
    assert first.version_info != second.version_info


def test_a_rejected_response_is_not_repeated_and_its_reason_is_returned() -> None:
    state = WorldState()
    state.take(asks("a"))
    state.response(secrets(a="1"))
    assert state.take(asks("a", nonce="1", refused="no such curve")) == "no such curve"
    assert state.response(secrets(a="1")) is None
    assert names_in(state.response(secrets(a="2"))) == ["a"]


def test_an_ack_of_an_older_response_is_ignored() -> None:
    state = WorldState()
    state.take(asks("a"))
    state.response(secrets(a="1"))
    state.response(secrets(a="2"))
    assert state.take(asks("b", nonce="1", refused="late")) is None
    assert state.response(secrets(a="2", b="1")) is None
    assert names_in(state.response(secrets(a="3", b="1"))) == ["a"]


def test_a_name_added_later_is_sent_with_the_others() -> None:
    state = WorldState()
    state.take(asks("a"))
    state.response(secrets(a="1", b="1"))
    state.take(asks("a", "b", nonce="1"))
    assert names_in(state.response(secrets(a="1", b="1"))) == ["a", "b"]


def test_a_missing_secret_is_sent_when_it_appears() -> None:
    state = WorldState()
    state.take(asks("a"))
    assert state.response(secrets()) is None
    assert names_in(state.response(secrets(a="1"))) == ["a"]


def test_the_version_is_the_contents_and_so_the_same_on_every_stream() -> None:
    versions = []
    for _ in range(2):
        state = WorldState()
        state.take(asks("a"))
        response = state.response(secrets(a="1"))
        assert response is not None
        versions.append(response.version_info)
    assert len(set(versions)) == 1


# Delta


def delta(
    *subscribe: str,
    unsubscribe: Sequence[str] = (),
    has: Mapping[str, str] | None = None,
    nonce: str = "",
    refused: str | None = None,
) -> pb.DeltaDiscoveryRequest:
    return pb.DeltaDiscoveryRequest(
        resource_names_subscribe=subscribe,
        resource_names_unsubscribe=unsubscribe,
        initial_resource_versions=has or {},
        response_nonce=nonce,
        error_detail=None if refused is None else pb.ErrorDetail(message=refused),
    )


def told(response: pb.DeltaDiscoveryResponse | None) -> tuple[list[str], list[str]] | None:
    if response is None:
        return None
    return [one.name for one in response.resources], list(response.removed_resources)


@pytest.mark.parametrize(
    ("request_", "present", "expected"),
    [
        (delta("a", "b"), secrets(a="1", b="1", c="1"), (["a", "b"], [])),
        (delta("a", "none"), secrets(a="1"), (["a"], ["none"])),
        (delta(), secrets(a="1", b="1"), (["a", "b"], [])),
        (delta("*"), secrets(a="1"), (["a"], [])),
        (delta("a", has={"a": "1"}), secrets(a="1"), None),
        (delta("a", has={"a": "0"}), secrets(a="1"), (["a"], [])),
        (delta("a", has={"a": "1"}), secrets(), ([], ["a"])),
    ],
    ids=["by name", "one is missing", "all", "all by its sign", "kept and good", "kept and old", "kept and gone"],
)
def test_the_first_delta_response_holds_the_missing_secrets(
    request_: pb.DeltaDiscoveryRequest,
    present: Mapping[str, NamedSecret],
    expected: tuple[list[str], list[str]] | None,
) -> None:
    state = DeltaState()
    state.take(request_)
    assert told(state.response(present)) == expected
    assert state.response(present) is None


def test_later_responses_hold_only_added_changed_and_removed_secrets() -> None:
    state = DeltaState()
    state.take(delta("a", "b"))
    state.response(secrets(a="1", b="1"))
    assert state.take(delta(nonce="1")) is None
    assert told(state.response(secrets(a="1", b="2"))) == (["b"], [])
    assert told(state.response(secrets(a="1"))) == ([], ["b"])
    assert state.response(secrets(a="1")) is None
    assert told(state.response(secrets(a="1", b="3"))) == (["b"], [])


def test_a_delta_that_was_refused_is_not_sent_again() -> None:
    state = DeltaState()
    state.take(delta("a"))
    response = state.response(secrets(a="1"))
    assert response is not None
    assert state.take(delta(nonce=response.nonce, refused="bad key")) == "bad key"
    assert state.response(secrets(a="1")) is None
    assert told(state.response(secrets(a="2"))) == (["a"], [])


def test_an_unsubscribed_secret_is_not_sent_and_a_resubscribed_one_is_sent_again() -> None:
    state = DeltaState()
    state.take(delta("a", "b"))
    state.response(secrets(a="1", b="1"))
    state.take(delta(unsubscribe=["a"]))
    assert told(state.response(secrets(a="2", b="2"))) == (["b"], [])
    state.take(delta("b"))
    assert told(state.response(secrets(a="2", b="2"))) == (["b"], [])
    state.take(delta("a"))
    assert told(state.response(secrets(a="2", b="2"))) == (["a"], [])


def test_all_names_can_be_unsubscribed_and_missing_ones_are_logged_once() -> None:
    state = DeltaState()
    state.take(delta("*", "none"))
    assert state.newly_missing(secrets(a="1")) == ("none",)
    assert state.newly_missing(secrets(a="1")) == ()
    assert told(state.response(secrets(a="1"))) == (["a"], ["none"])
    state.take(delta(unsubscribe=["*"]))
    assert state.response(secrets(a="2")) is None
