"""The captures of docs/captures.md: ``python3 -m tests.support.page_captures DIRECTORY`` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.tls_capture import REQUEST, RESPONSE, Tape, shaken

__all__ = ["write_captures"]


def write_captures(directory: Path) -> None:
    """Three connections, fine, refused and in plaintext, with their keys and bundle; the first of them with TLS 1.2
    before; and a file that ends too early.
    """
    tape = Tape()
    tape.wire(shaken(directory))
    tape.wire(shaken(directory, mutual=False))
    tape.plaintext(REQUEST, RESPONSE)
    secrets = (directory / "keys").read_bytes()
    (directory / "mesh.pcapng").write_bytes(tape.pcapng())
    (directory / "mesh-with-keys.pcapng").write_bytes(tape.pcapng(secrets))
    before = Tape()
    before.wire(shaken(directory, version=2))
    (directory / "before.pcapng").write_bytes(before.pcapng())
    (directory / "cut.pcapng").write_bytes(tape.pcapng(secrets)[:-30])
    (directory / "bundle.pem").write_bytes((directory / "web-P-256.ca").read_bytes())


if __name__ == "__main__":
    write_captures(Path(sys.argv[1]))
