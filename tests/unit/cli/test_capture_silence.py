"""What a live capture says where no packets and no secrets come."""

from __future__ import annotations

from meshtls.cli.capture.silence import QUIET_NS, Silence

QUIET = "no TCP packets of lo so far: wrong interface or port?"
NO_SECRETS = "no TLS secrets came from keys.log so far: is it the key log of these connections?"


def test_a_capture_without_packets_says_so_once_after_a_while() -> None:
    one = Silence("lo", "", 1000)
    told = [list(one.quiet(1000 + after, 0)) for after in (0, QUIET_NS - 1, QUIET_NS, 2 * QUIET_NS)]
    assert told == [[], [], [QUIET], []]


def test_a_capture_with_packets_is_not_called_quiet() -> None:
    assert list(Silence("lo", "", 0).quiet(QUIET_NS, 1)) == []


def test_a_key_log_without_secrets_is_said_once_when_a_connection_stays_encrypted() -> None:
    one = Silence("lo", "keys.log", 0)
    one.took(b"")
    assert [list(one.without_secrets()), list(one.without_secrets())] == [[NO_SECRETS], []]


def test_a_key_log_with_secrets_and_a_capture_without_keys_say_nothing() -> None:
    one = Silence("lo", "keys.log", 0)
    one.took(b"CLIENT_RANDOM 00 00\n")
    assert list(one.without_secrets()) == list(Silence("lo", "", 0).without_secrets()) == []
