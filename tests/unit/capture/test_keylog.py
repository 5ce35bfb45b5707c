"""An SSLKEYLOGFILE is read line by line: a wrong line costs itself only, and no secret is ever shown."""

from __future__ import annotations

import pytest

from meshtls.capture.keylog import LONGEST_LINE, MOST_TROUBLES, KeyLabel, KeyLog, KeyLogTrouble

RANDOM, OTHER = bytes(range(32)), bytes(range(1, 33))
SECRET, LONG = bytes(range(100, 132)), bytes(range(100, 148))


def line(label: str, secret: bytes = SECRET, random: bytes = RANDOM) -> bytes:
    return f"{label} {random.hex()} {secret.hex()}\n".encode()


@pytest.mark.parametrize("label", list(KeyLabel))
def test_each_label_of_the_rfc_is_read(label: KeyLabel) -> None:
    keys = KeyLog(line(label.value, LONG))
    secrets = keys.secrets_of(RANDOM)
    assert secrets is not None
    assert (secrets.labels, secrets.get(label)) == ((label,), LONG)
    assert (keys.troubles, len(keys), keys.secrets_of(OTHER)) == ([], 1, None)


def test_a_secret_for_sha_256_is_shorter() -> None:
    secrets = KeyLog(line("SERVER_TRAFFIC_SECRET_0", SECRET)).secrets_of(RANDOM)
    assert secrets is not None
    assert secrets.get(KeyLabel.SERVER_TRAFFIC) == SECRET


@pytest.mark.parametrize(
    "ignored",
    [
        b"\n",
        b"# a comment with \xff\n",
        b"\r\n",
        b"  \n",
        line("CLIENT_TRAFFIC_SECRET_1"),
        line("SERVER_TRAFFIC_SECRET_12"),
        line("SERVER_TRAFFIC_SECRET_N"),
        line("ECH_SECRET"),
        b"RSA 0011223344556677 00\n".replace(b" 00\n", b" " + LONG.hex().encode() + b"\n"),
    ],
)
def test_a_valid_line_that_is_of_no_use_is_ignored(ignored: bytes) -> None:
    keys = KeyLog(ignored + line("EXPORTER_SECRET"))
    assert (keys.troubles, len(keys)) == ([], 1)


WORDS = "wanted a label, a client random and a secret with one space between, got {} words"
LENGTHS = "wanted a secret of 64 or 96 hex digits, got something else"
WRONG_RANDOM = "wanted a client random of 64 hex digits, got something else"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"CLIENT_RANDOM\n", WORDS.format(1)),
        (line("EXPORTER_SECRET").replace(b" ", b"  ", 1), WORDS.format(4)),
        (line("EXPORTER_SECRETS"), "wanted a label of RFC 9850, got another word"),
        (line("CLIENT_TRAFFIC_SECRET_x"), "wanted a label of RFC 9850, got another word"),
        (line("EXPORTER_SECRET", SECRET, RANDOM[1:]), WRONG_RANDOM),
        (line("EXPORTER_SECRET", SECRET[1:]), LENGTHS),
        (line("EXPORTER_SECRET")[:-2] + b"\n", LENGTHS),
        (line("EXPORTER_SECRET")[:-2] + b"g\n", LENGTHS),
        (line("EXPORTER_SECRET").replace(b"00", b"\xff\xff", 1), WRONG_RANDOM),
        (line("CLIENT_RANDOM", SECRET), "wanted a secret of 96 hex digits, got something else"),
        (
            line("EXPORTER_SECRET")[:-1] + b"0" * LONGEST_LINE + b"\n",
            f"wanted a line of at most {LONGEST_LINE} bytes, got a longer one",
        ),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1 << 20])
def test_a_wrong_line_is_told_and_the_others_are_read(wrong: bytes, reason: str, pieces: int) -> None:
    text = line("EXPORTER_SECRET", SECRET) + wrong + line("SERVER_TRAFFIC_SECRET_0", LONG)
    keys = KeyLog()
    for at in range(0, len(text), pieces):
        keys.feed(text[at : at + pieces])
    keys.finish()
    assert keys.troubles == [KeyLogTrouble(2, reason)]
    secrets = keys.secrets_of(RANDOM)
    assert secrets is not None
    assert secrets.labels == (KeyLabel.SERVER_TRAFFIC, KeyLabel.EXPORTER)


def test_the_last_line_needs_no_line_feed_and_lines_may_end_as_in_dos() -> None:
    keys = KeyLog(line("CLIENT_TRAFFIC_SECRET_0").replace(b"\n", b"\r\n") + line("EXPORTER_SECRET").rstrip())
    secrets = keys.secrets_of(RANDOM)
    assert secrets is not None
    assert len(secrets.labels) == 2


def test_the_last_of_two_secrets_for_one_label_counts_and_both_ends_may_write_the_same() -> None:
    keys = KeyLog(line("EXPORTER_SECRET", SECRET) * 2 + line("EXPORTER_SECRET", LONG))
    secrets = keys.secrets_of(RANDOM)
    assert secrets is not None
    assert secrets.get(KeyLabel.EXPORTER) == LONG
    assert keys.troubles == [
        KeyLogTrouble(3, "wanted one EXPORTER_SECRET for a client random, got a second one: the last one counts")
    ]


def test_connections_and_troubles_are_bounded() -> None:
    keys = KeyLog(most=2)
    for number in range(3):
        keys.feed(line("EXPORTER_SECRET", SECRET, bytes((number,)) * 32))
    assert (len(keys), keys.dropped) == (2, 1)
    assert keys.secrets_of(bytes(32)) is None
    keys.feed(b"x\n" * (MOST_TROUBLES + 50))
    assert (len(keys.troubles), keys.wrong_lines) == (MOST_TROUBLES, MOST_TROUBLES + 50)


def test_no_secret_is_shown() -> None:
    text = line("EXPORTER_SECRET") + line("CLIENT_TRAFFIC_SECRET_0", SECRET[1:]) + b"secret " + SECRET.hex().encode()
    keys = KeyLog(text)
    shown = f"{keys!r} {keys.secrets_of(RANDOM)!r} {keys.troubles}"
    assert "<KeyLog [1 connections, 2 wrong lines]> <ConnectionSecrets [EXPORTER_SECRET]>" in shown
    assert SECRET[1:].hex() not in shown
