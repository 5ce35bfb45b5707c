"""The node as a process on its two pipes: order, crowds, damage, and the end."""

import json
import subprocess
from itertools import pairwise

import pytest

from tests.integration.node.harness import NODE, Body, ask, lines_of, pipe

HANDSHAKE = {"type": "handshake", "client": "service-a", "server": "service-b"}
VERIFY = {"type": "verify_identity", "spiffe_id": "spiffe://example.com/a", "trust_domain": "example.com"}


def numbered(message: Body, *numbers: int) -> list[Body]:
    return [{**message, "msg_id": number} for number in numbers]


@pytest.mark.timeout(240)
def test_a_thousand_handshakes_piped_at_once_all_get_their_reply() -> None:
    replies = pipe(lines_of(numbered(HANDSHAKE, *range(1000))), timeout=200)

    assert sorted(reply["in_reply_to"] for reply in replies) == list(range(1000))
    assert {reply["type"] for reply in replies} == {"handshake_complete"}


@pytest.mark.timeout(120)
def test_handshakes_of_many_pairs_at_once_all_get_their_reply() -> None:
    crowd = [{**HANDSHAKE, "msg_id": n, "client": f"client-{n}", "server": f"server-{n % 7}"} for n in range(150)]

    replies = pipe(lines_of(crowd), timeout=100)

    assert sorted(reply["in_reply_to"] for reply in replies) == list(range(150))
    assert {reply["type"] for reply in replies} == {"handshake_complete"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("limit", [40, 64])
def test_with_few_file_descriptors_many_pairs_take_their_turns(limit: int) -> None:
    crowd = [{**HANDSHAKE, "msg_id": n, "client": f"client-{n}", "server": f"server-{n}"} for n in range(100)]
    node = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *NODE)

    replies = pipe(lines_of(crowd), node=node, timeout=100)

    assert sorted(reply["in_reply_to"] for reply in replies) == list(range(100))
    assert {reply["type"] for reply in replies} == {"handshake_complete"}


@pytest.mark.parametrize(
    ("closed", "stream"), [("<&-", "standard input"), (">&-", "standard output"), ("<&- >&-", "standard input")]
)
def test_a_closed_output_stream_is_an_error_of_one_sentence(closed: str, stream: str) -> None:
    closing = ("sh", "-c", f'exec "$@" {closed}', "sh", *NODE)

    done = subprocess.run(closing, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)

    wanted = f"meshtls: {stream}: wanted an open stream, got a closed one; redirect it to a file or to /dev/null\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", wanted)


def test_a_quick_reply_does_not_wait_for_slow_ones() -> None:
    replies = pipe(lines_of([*numbered(HANDSHAKE, *range(100)), *numbered(VERIFY, 100)]))

    assert [reply["in_reply_to"] for reply in replies].index(100) < 50


def test_a_cheap_message_overtakes_queued_handshakes() -> None:
    handshakes = [{"type": "handshake", "msg_id": n, "client": "a", "server": "b"} for n in range(1, 1001)]
    quick = {
        "type": "verify_identity",
        "msg_id": 0,
        "spiffe_id": "spiffe://example.com/a",
        "trust_domain": "example.com",
    }

    replies = pipe(lines_of([*handshakes, quick]))

    # Of the thousand, those that were done while the lines were read may come before it.
    assert len(replies) == 1001
    assert [reply["in_reply_to"] for reply in replies].index(0) < 250


def test_an_unknown_field_is_named_once_on_standard_error() -> None:
    message = {"type": "rotate", "msg_id": 1, "service": "a", "ttl\x1b[31m\nforged": 1}
    done = subprocess.run(NODE, input=lines_of([message, message]), capture_output=True, timeout=60, check=True)

    assert done.stderr.count(b"\n") == 1
    assert b"ignoring the unknown field 'rotate.ttl\\x1b[31m\\nforged'" in done.stderr
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["rotated", "rotated"]


def test_a_handshake_uses_the_policy_in_force_at_its_line() -> None:
    def policy(number: int, *allow: str) -> Body:
        return {"type": "policy", "msg_id": number, "server": "service-b", "allow": list(allow)}

    replies = ask(
        *numbered(HANDSHAKE, 1),
        policy(2),
        *numbered(HANDSHAKE, 3),
        policy(4, "service-a"),
        *numbered(HANDSHAKE, 5),
    )

    assert [replies[number]["success"] for number in (1, 3, 5)] == [True, False, True]


def test_state_changes_are_answered_in_the_order_of_the_lines() -> None:
    rotations = [{"type": "rotate", "msg_id": number, "service": "service-a"} for number in range(20)]

    replies = pipe(lines_of(rotations))

    assert [reply["in_reply_to"] for reply in replies] == list(range(20))
    for before, after in pairwise(replies):
        assert before["new_serial"] == after["old_serial"]


def test_the_node_goes_on_after_each_kind_of_damage() -> None:
    good = lines_of(numbered(VERIFY, 1))
    damage = [b"nope\n", b"[]\n", b"\xff\xfe\n", b"[" * 50_000 + b"\n", b'{"type": 1}\n', b'{"type": "x"}\n']
    oversized = b'{"type": "handshake", "msg_id": 7, "client": "' + b"a" * (1 << 20) + b'"}\n'

    replies = pipe(good.join([b"", *damage, oversized, b""]))

    errors = [reply for reply in replies if reply["type"] == "error"]
    assert [error["code"] for error in errors] == [12, 12, 12, 12, 12, 10, 12]
    assert all(error["in_reply_to"] is None for error in errors)
    assert errors[-1]["text"] == "line: wanted at most 1048576 bytes, got more; it was skipped"
    assert [reply["type"] for reply in replies].count("identity_valid") == len(damage) + 2


def test_a_line_of_exactly_the_limit_is_read() -> None:
    [message] = numbered(VERIFY, 1)
    line = json.dumps(message)

    assert pipe(line.ljust(1 << 20).encode() + b"\n")[0]["type"] == "identity_valid"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            {"type": "handshake", "client": "a b"},
            "handshake: path segment 'a b': wanted only A-Z, a-z, 0-9, '.', '_' and '-'",
        ),
        (
            {"type": "handshake", "client": ""},
            "handshake: name '': wanted one or more characters and no '/'",
        ),
        (
            {"type": "handshake", "client": "a", "server": ""},
            "handshake: name '': wanted one or more characters and no '/'",
        ),
        (
            {"type": "handshake", "client": "a", "trust_domain": "a b"},
            "handshake: trust domain 'a b': wanted one or more of a-z, 0-9, '.', '_' and '-'",
        ),
        (
            {"type": "rotate", "service": "a/b"},
            "rotate: name 'a/b': wanted one or more characters and no '/'",
        ),
        (
            {"type": "issue_certificate", "service": "a", "ttl": 0.5},
            "issue_certificate: TTL of 0.5 s: wanted at least one second",
        ),
        (
            {"type": "policy", "server": "a", "allow": ["spiffe://"]},
            "policy: trust domain '': wanted one or more of a-z, 0-9, '.', '_' and '-'",
        ),
        (
            {"type": "policy", "server": "a", "allow": ["x", "spiffe://d"]},
            "policy: wanted a workload's ID, with a path such as spiffe://d/web, got spiffe://d",
        ),
    ],
)
def test_an_unusable_value_is_malformed(message: Body, text: str) -> None:
    assert pipe(lines_of(numbered(message, 5))) == [{"type": "error", "in_reply_to": 5, "code": 12, "text": text}]


def test_blank_lines_hold_no_message_and_the_last_line_needs_no_end() -> None:
    assert len(pipe(b"\n  \r\n" + lines_of(numbered(VERIFY, 1)).rstrip())) == 1


def test_the_end_of_input_ends_the_node() -> None:
    assert pipe(b"") == []


def test_replies_come_before_the_end_of_input() -> None:
    with subprocess.Popen(NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdin
        assert node.stdout
        for number in (1, 2):
            node.stdin.write(lines_of(numbered(HANDSHAKE, number)))
            node.stdin.flush()
            assert json.loads(node.stdout.readline())["in_reply_to"] == number
        node.stdin.close()
        assert node.stdout.read() == b""
        assert node.wait(30) == 0


def test_a_reader_that_leaves_ends_the_node_with_a_sentence() -> None:
    with subprocess.Popen(NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        assert node.stdin
        assert node.stdout
        assert node.stderr
        node.stdout.close()
        node.stdin.write(lines_of(numbered(VERIFY, 1)))
        node.stdin.flush()

        assert node.wait(30) == 1
        assert node.stderr.read() == b"meshtls: standard output: wanted someone to read the replies: Broken pipe\n"


def test_input_may_come_from_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("node") / "messages"
    path.write_bytes(lines_of(numbered(HANDSHAKE, 1)))
    with path.open("rb") as file:
        done = subprocess.run(NODE, stdin=file, capture_output=True, timeout=30, check=True)

    assert json.loads(done.stdout)["success"] is True
