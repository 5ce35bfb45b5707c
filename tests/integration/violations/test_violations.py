"""Protocol violations against the sidecar, ``listen`` and a plain blocking server of the ``ssl`` module, side by side.

Our server answers with an alert that the RFC permits, ends the connection, relays nothing, and serves the next client.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tlslite.errors import TLSAbruptCloseError

from meshtls.sidecar.settings import TlsMinimum
from tests.integration.violations.client import V1_2, V1_3, Answer, Client, Refused
from tests.integration.violations.servers import BOUND, Served, client_context, servers, svid
from tests.integration.violations.table import DATA, PING, VIOLATIONS, Serves, Violation

GOOD = b"a good client's"
Servers = tuple[Served, Served, Served]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[int, int], Servers]]:
    """The three servers, by their minimum version of TLS."""
    directory = tmp_path_factory.mktemp("keys")
    with servers(directory, TlsMinimum.V1_2) as older, servers(directory, TlsMinimum.V1_3) as newer:
        yield {V1_2: older, V1_3: newer}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return client_context(tmp_path_factory.mktemp("client"))


def provoke(served: Served, violation: Violation) -> Answer:
    with socket.create_connection(served.address, BOUND) as sock:
        client = Client(sock, violation.version, svid)
        said: list[str] = []
        try:
            violation.act(client)
            if violation.serves is not Serves.NEVER:
                client.record(DATA, PING)
        except Refused as refused:
            said.append(str(refused))
        except (ConnectionError, TLSAbruptCloseError):
            pass  # the server ended while we were still sending: its alert may be readable
        answer = client.answer(None if violation.serves is Serves.NEVER else len(PING))
        answer.alerts[:0] = said
        return answer


def greet(served: Served, context: ssl.SSLContext) -> bytes:
    """The echo that a good client reads."""
    with socket.create_connection(served.address, BOUND) as sock, context.wrap_socket(sock) as tls:
        tls.sendall(GOOD)
        with tls.makefile("rb") as stream:
            return stream.read(len(GOOD))


def check(served: Served, violation: Violation, answer: Answer, reference: Answer) -> None:
    """Check for a permitted alert and the end of the connection, or for service if the RFC and the stdlib permit it."""
    allowed = violation.alerts | violation.openssl
    said = f"{served.name}: {answer}; the stdlib's: {reference}; allowed: {', '.join(sorted(allowed)) or 'any'}"
    if violation.serves is Serves.MUST or (violation.serves is Serves.MAY and reference.end == "open"):
        assert (answer.end, answer.data) == ("open", PING), said
        return
    assert answer.end in ("EOF", "reset"), said
    assert answer.data == b"", said
    if allowed:
        assert set(answer.alerts) <= allowed, said
        assert answer.alerts or not (violation.alert_required or set(reference.alerts) & allowed), said


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_the_answer_to_a_violation_is_never_worse_than_the_stdlib_s(
    violation: Violation, running: dict[tuple[int, int], Servers], good: ssl.SSLContext
) -> None:
    three = running[violation.version]
    before = [(served.connections, len(served.received)) for served in three]
    with ThreadPoolExecutor(len(three)) as pool:
        answers = list(pool.map(lambda served: provoke(served, violation), three))
    *ours, reference = answers
    for served, answer, (connections, received) in zip(three, ours, before, strict=False):
        check(served, violation, answer, reference)
        # The app accepts in order: once it has this connection, every earlier one has arrived.
        assert greet(served, good) == GOOD, f"{served.name} serves no more"
        relayed = bytes(served.received[received:])
        assert relayed == (PING + GOOD if answer.end == "open" else GOOD), served.name
        reached = served.connections - connections - 1
        assert reached == 0 or violation.established or answer.end == "open", f"{served.name} reached the app"
