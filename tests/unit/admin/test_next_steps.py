"""What is said of the end of a connection or a request, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.admin.next_steps import NEXT_STEPS, next_step, sentence
from meshtls.observe.events import Outcome

WEB, ORDERS = "spiffe://a.test/web", "spiffe://a.test/orders"


def line(outcome: str = "POLICY_DENIED", direction: str = "inbound", **changed: Any) -> dict[str, Any]:
    record = {
        "sidecar": "orders",
        "direction": direction,
        "outcome": outcome,
        "reason": "its own words",
        "source_id": WEB,
        "destination_id": ORDERS,
        "remote": "127.0.0.1:9",
    }
    return record | changed


REQUEST = {"method": "GET", "host": "orders", "path": "/secret"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (line(), f"{ORDERS} refused {WEB}, whose identity is not allowed"),
        (line(**REQUEST), f"the policies of {ORDERS} do not allow this HTTP request of {WEB}"),
        (line(direction="outbound"), f"{WEB} refused {ORDERS}, which is another server than it expected"),
        (
            line(source_id=None, security="plaintext"),
            f"{ORDERS} refused a caller at 127.0.0.1:9 in plaintext, which proves no identity",
        ),
        (
            line("NO_CLIENT_CERTIFICATE", source_id=None),
            f"{ORDERS} refused a caller at 127.0.0.1:9 without a proven identity, which presented no certificate",
        ),
        (line("LOCAL_IDENTITY", "outbound", destination_id=None), f"{WEB} had no valid SVID"),
        (
            line("CONNECT_FAILED", "outbound", destination_id=None),
            f"{WEB} could not reach the server at 127.0.0.1:9",
        ),
        (line("CONNECT_FAILED"), f"{ORDERS} could not reach its app"),
        (line("IDLE_TIMEOUT"), "no byte moved for the idle timeout"),
        (line("OF_ANOTHER_VERSION"), "its own words"),
    ],
)
def test_a_sentence_names_both_ends(record: dict[str, Any], words: str) -> None:
    assert sentence(record) == words


_VAGUE = ("{", "our ", " here", "the other side", "the peer")


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_no_sentence_and_no_step_leaves_open_whom_it_means(outcome: Outcome, direction: str) -> None:
    for said in (sentence(line(outcome.name, direction)), next_step(line(outcome.name, direction))):
        assert not [word for word in _VAGUE if word in said], said


def test_each_outcome_has_a_step() -> None:
    assert set(NEXT_STEPS) == set(Outcome)


ADD = "if it is to be allowed, add the caller to the inbound's allow or to a policy: `{}` shows what would let it in"
ALLOW = f"if it is to be allowed, allow this request in a policy of {ORDERS}; `{{}}` shows what decides"
EXPLAIN = "meshtls policy explain --from"


@pytest.mark.parametrize(
    ("record", "file", "step"),
    [
        (line(), "", ADD.format(f"{EXPLAIN} {WEB} --config FILE")),
        (line(port=80), "orders.yaml", ADD.format(f"{EXPLAIN} {WEB} --config orders.yaml --port 80")),
        (line(source_id=None, security="plaintext"), "", ADD.format(f"{EXPLAIN} plaintext --config FILE")),
        (
            line(**REQUEST),
            "orders.yaml",
            ALLOW.format(f"{EXPLAIN} {WEB} --config orders.yaml --path /secret"),
        ),
        (
            line(**REQUEST | {"method": "POST"}, clause="operation.hosts"),
            "",
            ALLOW.format(f"{EXPLAIN} {WEB} --config FILE --method POST --path /secret --host orders"),
        ),
        (
            line(**REQUEST | {"path": "/$(reboot)`id`"}),
            "",
            ALLOW.format(f"{EXPLAIN} {WEB} --config FILE --path '/$(reboot)`id`'"),
        ),
        (line(direction="outbound"), "web.yaml", "correct outbound[].peer (or to) in web.yaml"),
        (
            line(direction="outbound", sidecar="web"),
            "",
            "correct outbound[].peer (or to) in the file of sidecar web",
        ),
        (line("OF_ANOTHER_VERSION"), "", ""),
    ],
)
def test_the_step_has_the_whole_command_quoted_for_a_shell(record: dict[str, Any], file: str, step: str) -> None:
    assert next_step(record, file) == step
