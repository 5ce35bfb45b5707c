"""What an idle connection of Python's ``ssl`` takes of a process's memory, measured on both ends of 500."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from examples.costs.talk import Authority, Contexts, contexts

_COUNT = 500


def _connection(made: Contexts) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = made[0].wrap_bio(to_client, to_server)
    server = made[1].wrap_bio(to_server, to_client, server_side=True)
    for end in 2 * (client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client, server


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    """Print KiB."""
    made = contexts(Authority())
    kept = [_connection(made)]
    before = _resident()
    kept += [_connection(made) for _ in range(_COUNT)]
    print(f"{(_resident() - before) / (2 * _COUNT):.0f} KiB an end, with {ssl.OPENSSL_VERSION}")


if __name__ == "__main__":
    main()
