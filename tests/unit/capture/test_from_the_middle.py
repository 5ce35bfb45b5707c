"""Of a connection that was captured from its middle it is said why a key log does not decrypt it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.capture.session import NO_CLIENT_HELLO
from tests.support.tls_capture import Tape, analyzed, shaken


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("keys", [True, False])
def test_a_key_log_does_not_help_where_the_client_hello_was_not_captured(
    version: int, keys: bool, tmp_path: Path
) -> None:
    tape = Tape()
    wire = shaken(tmp_path, version=version)
    tape.wire(wire)
    whole = analyzed(tape, tmp_path / "keys" if keys else None)
    # The handshakes of TCP and TLS are missing: what is left begins with application data.
    del tape.frames[: 3 + len(wire.flights) - 4]
    (found,) = analyzed(tape, tmp_path / "keys" if keys else None)
    assert (found.protocol, found.from_start, found.requests) == ("TLS", False, ())
    assert found.troubles == ((f"captured from its middle: {NO_CLIENT_HELLO}",) if keys else ())
    # The twin with its beginning.
    assert (len(whole[0].requests), whole[0].troubles) == (int(keys), ())
