"""The secrets of TLS connections, as an SSLKEYLOGFILE has them (RFC 9850). Pure.

A line is a label, the ClientHello's random and a secret, both in hex. A line that is none costs that line only: what
is wrong with it is kept with its number, and never its text, which may hold most of a secret.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

__all__ = [
    "LONGEST_LINE",
    "MOST_CONNECTIONS",
    "MOST_TROUBLES",
    "ConnectionSecrets",
    "KeyLabel",
    "KeyLog",
    "KeyLogTrouble",
]

#: Connections whose secrets are kept; one more drops the one that was added first.
MOST_CONNECTIONS = 1 << 16
#: Lines whose trouble is told; the others are counted.
MOST_TROUBLES = 100
#: Bytes of a line. The longest that is valid has less than 250.
LONGEST_LINE = 1 << 10
_RANDOM = 32


class KeyLabel(Enum):
    """What a secret is for (RFC 9850, section 2): for TLS 1.2 the master secret, for TLS 1.3 those of RFC 8446, section
    7.1.
    """

    MASTER = "CLIENT_RANDOM"
    CLIENT_EARLY = "CLIENT_EARLY_TRAFFIC_SECRET"
    EARLY_EXPORTER = "EARLY_EXPORTER_SECRET"
    CLIENT_HANDSHAKE = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
    SERVER_HANDSHAKE = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
    CLIENT_TRAFFIC = "CLIENT_TRAFFIC_SECRET_0"
    SERVER_TRAFFIC = "SERVER_TRAFFIC_SECRET_0"
    EXPORTER = "EXPORTER_SECRET"


_LABELS: Mapping[bytes, KeyLabel] = {one.value.encode(): one for one in KeyLabel}
#: Labels that are valid and of no use here: later generations follow from the first; ECH hides nothing that is read
#: here; RSA has the encrypted premaster secret of versions that have no AEAD. OpenSSL writes N for a later generation.
_UNUSED = frozenset((b"ECH_SECRET", b"ECH_CONFIG", b"RSA", b"CLIENT_TRAFFIC_SECRET_N", b"SERVER_TRAFFIC_SECRET_N"))
_NUMBERED = (b"CLIENT_TRAFFIC_SECRET_", b"SERVER_TRAFFIC_SECRET_")
#: Lengths of a secret in bytes: that of the hash (SHA-256, SHA-384), and for TLS 1.2 always 48 (RFC 5246, section 8.1).
_LENGTHS, _MASTER_LENGTHS = frozenset((32, 48)), frozenset((48,))


class KeyLogTrouble(NamedTuple):
    """What is wrong with one line; lines count from 1."""

    line: int
    reason: str


class ConnectionSecrets:
    """The secrets of one connection by their labels. ``repr`` shows which there are, and not what they are."""

    __slots__ = ("_secrets",)

    def __init__(self) -> None:
        self._secrets: dict[KeyLabel, bytes] = {}

    def get(self, label: KeyLabel) -> bytes | None:
        """The secret, if it is known."""
        return self._secrets.get(label)

    @property
    def labels(self) -> tuple[KeyLabel, ...]:
        """Which secrets are known, in the order of KeyLabel."""
        return tuple(one for one in KeyLabel if one in self._secrets)

    def put(self, label: KeyLabel, secret: bytes) -> bool:
        """Keep this secret. False if it replaced another one."""
        before = self._secrets.get(label, secret)
        self._secrets[label] = secret
        return before == secret

    def __repr__(self) -> str:
        return f"<ConnectionSecrets [{', '.join(one.value for one in self.labels)}]>"


class KeyLog:
    """The secrets of many connections. Feed it files, or the secrets blocks of a capture, in pieces of any size.

    - ``troubles``: the first MOST_TROUBLES lines that can't be used; ``wrong_lines`` counts all of them.
    - ``dropped``: connections whose secrets were given up because there were more than ``most``.
    - ``awaited``: bytes of a connection that may wait for secrets which this log lacks; 0 where no more will come.
    - ``changes``: secrets that were added.
    """

    __slots__ = (
        *("_connections", "_held", "_long", "_most", "awaited", "changes", "dropped", "lines"),
        *("troubles", "wrong_lines"),
    )

    def __init__(self, text: bytes = b"", *, most: int = MOST_CONNECTIONS, awaited: int = 0) -> None:
        """``text`` is a whole file, whose last line needs no line feed."""
        self.awaited = awaited
        self.changes = 0
        self._connections: OrderedDict[bytes, ConnectionSecrets] = OrderedDict()
        self._most = most
        self._held = b""
        self._long = False
        self.lines = 0
        self.dropped = 0
        self.wrong_lines = 0
        self.troubles: list[KeyLogTrouble] = []
        if text:
            self.feed(text)
            self.finish()

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a line counts once its line feed is there. Nothing is raised: see ``troubles``."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._long:
                self._long = False
                continue
            whole, self._held = self._held + line, b""
            self._line(whole)
        if self._long:
            return
        self._held += rest
        if len(self._held) > LONGEST_LINE:
            # What is left of this line is skipped, so that no more than this is ever kept.
            self._line(self._held)
            self._held, self._long = b"", True

    def finish(self) -> None:
        """Read what is left as the last line: the file, or one secrets block, is over."""
        held, self._held, self._long = self._held, b"", False
        if held:
            self._line(held)

    def secrets_of(self, client_random: bytes) -> ConnectionSecrets | None:
        """The secrets of the connection whose ClientHello has this random, if there are any."""
        return self._connections.get(client_random)

    def __len__(self) -> int:
        return len(self._connections)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<KeyLog [{len(self._connections)} connections, {self.wrong_lines} wrong lines]>"

    def _line(self, line: bytes) -> None:
        self.lines += 1
        if len(line) > LONGEST_LINE:
            self._wrong(f"wanted a line of at most {LONGEST_LINE} bytes, got a longer one")
            return
        line = line.strip(b"\r \t")
        if not line or line.startswith(b"#"):
            return
        words = line.split(b" ")
        if len(words) != 3:
            self._wrong(f"wanted a label, a client random and a secret with one space between, got {len(words)} words")
            return
        name, random_text, secret_text = words
        label = _LABELS.get(name)
        if label is None:
            is_later = any(name.startswith(one) and name.removeprefix(one).isdigit() for one in _NUMBERED)
            if name not in _UNUSED and not is_later:
                self._wrong("wanted a label of RFC 9850, got another word")
            return
        client_random, secret = _hex(random_text), _hex(secret_text)
        lengths = _MASTER_LENGTHS if label is KeyLabel.MASTER else _LENGTHS
        if client_random is None or len(client_random) != _RANDOM:
            self._wrong(f"wanted a client random of {2 * _RANDOM} hex digits, got something else")
        elif secret is None or len(secret) not in lengths:
            digits = " or ".join(str(2 * length) for length in sorted(lengths))
            self._wrong(f"wanted a secret of {digits} hex digits, got something else")
        else:
            self._keep(client_random, label, secret)

    def _keep(self, client_random: bytes, label: KeyLabel, secret: bytes) -> None:
        connection = self._connections.get(client_random)
        if connection is None:
            connection = self._connections[client_random] = ConnectionSecrets()
            if len(self._connections) > self._most:
                self._connections.popitem(last=False)
                self.dropped += 1
        self.changes += 1
        if not connection.put(label, secret):
            self._wrong(f"wanted one {label.value} for a client random, got a second one: the last one counts")

    def _wrong(self, reason: str) -> None:
        self.wrong_lines += 1
        if len(self.troubles) < MOST_TROUBLES:
            self.troubles.append(KeyLogTrouble(self.lines, reason))


def _hex(text: bytes) -> bytes | None:
    """The bytes of hex digits with nothing between them."""
    try:
        return bytes.fromhex(text.decode("ascii")) if text.isalnum() else None
    except ValueError:
        return None
