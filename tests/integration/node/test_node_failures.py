"""The node's own faults: each is one message's, which is told so."""

import json
import subprocess
import sys

import pytest

from tests.integration.node.harness import Body, lines_of

HANDSHAKE = {"type": "handshake", "client": "service-a"}


def broken(config: pytest.Config, what: str, *messages: Body) -> tuple[list[Body], str]:
    """All replies of a node whose clock fails once, and what it logs; it must end by itself, with 0."""
    node = (sys.executable, "-m", "tests.integration.node.broken_node", what)
    given = lines_of(messages)
    done = subprocess.run(node, input=given, capture_output=True, timeout=150, check=False, cwd=config.rootpath)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def failure(kind: str, number: int) -> Body:
    text = f"{kind}: internal error of the node; the traceback is in its log, on standard error"
    return {"type": "error", "in_reply_to": number, "code": 12, "text": text}


@pytest.mark.parametrize(
    "message",
    [{"type": "issue_certificate", "service": "a"}, {"type": "rotate", "service": "a"}, HANDSHAKE],
    ids=lambda message: str(message["type"]),
)
def test_a_message_on_which_the_node_fails_gets_an_error_and_the_node_goes_on(
    message: Body, pytestconfig: pytest.Config
) -> None:
    replies, log = broken(pytestconfig, "now", {**message, "msg_id": 1}, {**message, "msg_id": 2})

    assert replies[0] == failure(message["type"], 1)
    assert (replies[1]["in_reply_to"], "code" in replies[1]) == (2, False)
    assert "Traceback" in log
    assert log.count("RuntimeError: the clock has no now") == 1


def test_an_unexpected_handshake_failure_affects_no_other_handshake(pytestconfig: pytest.Config) -> None:
    crowd = [{**HANDSHAKE, "msg_id": n, "server": f"service-{n % 3}"} for n in range(12)]

    replies, log = broken(pytestconfig, "monotonic", *crowd)

    assert sorted(reply["in_reply_to"] for reply in replies) == list(range(12))
    [failed] = [reply for reply in replies if reply["type"] != "handshake_complete"]
    assert (failed["type"], failed["detail"]) == ("handshake_failed", "the sidecars gave no verdict within 15 s")
    assert log.count("RuntimeError: the clock has no monotonic") == 1
