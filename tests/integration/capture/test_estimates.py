"""Estimates of application bytes without keys: between two sidecars, of padded records, and of early data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Connection, as_json
from meshtls.capture.analysis.row import COLUMNS, row_of
from meshtls.capture.report.costs import overhead
from meshtls.wire.side import Side
from tests.integration.sidecar.mesh import an_app, connected, echoed, side_a, side_b
from tests.support.capture import captured
from tests.support.tls_capture import closed_by
from tests.support.tls_wire import Flight, Program, Programs, programs

ASKED, ANSWERED = b"hello\n", b"what was answered\n"
EARLY = b"GET /early HTTP/1.1\r\nHost: web.test\r\n\r\n"


told = partial(closed_by, Side.CLIENT)


def application_bytes(one: Connection) -> tuple[int, int]:
    return one.client.application_bytes, one.server.application_bytes


async def both_ways(run: Programs, client: Program, *, before: int) -> list[Flight]:
    """A word of each, after ``before`` connections; the flights of this one."""
    await client.type(ASKED)
    await run.server.told(ASKED.strip(), of=before + 1)
    await run.server.type(ANSWERED)
    await client.told(ANSWERED.strip())
    await client.quit()
    return list(run.flights)


async def test_a_short_echo_through_two_sidecars_is_estimated_exactly(tmp_path: Path) -> None:
    file = tmp_path / "mesh.pcap"
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, captured(b.inbound.port, file):
        async with connected(a.outbound) as streams:
            assert await echoed(streams, b"ping") == b"ping"
        await b.lines.next()
    with file.open("rb") as stream:
        (found,) = Analysis(stream)
    assert (found.estimated, found.at_most) == (True, False)
    assert application_bytes(found) == (4, 4)
    assert found.overhead is not None


@pytest.mark.parametrize("mutual", [(), ("-Verify", "2")])
@pytest.mark.parametrize("padding", [(), ("-record_padding", "512")])
async def test_the_amount_of_padded_records_is_a_bound(
    tmp_path: Path, padding: tuple[str, ...], mutual: tuple[str, ...]
) -> None:
    keys = tmp_path / "keys"
    async with (
        programs(tmp_path, keys, "-tls1_3", *padding, *mutual) as run,
        run.client(*padding) as client,
    ):
        await client.told(b"Verify return code")
        flights = await both_ways(run, client, before=0)
    for sent in (flights, joined(flights)):
        known, found = told(sent, keys), told(sent)
        assert (known.estimated, known.at_most, application_bytes(known)) == (False, False, (6, 18))
        assert (found.estimated, found.at_most, as_json(found)["at_most"]) == (True, bool(padding), bool(padding))
        cells = dict(zip(COLUMNS, row_of(found), strict=True))
        costs = dict(overhead(found))
        if padding:
            assert 6 <= found.client.application_bytes <= 6 + 4 * 512
            assert 18 <= found.server.application_bytes <= 18 + 8 * 512
            assert cells["bytes"] == f"<={found.application_bytes}"
            assert cells["overhead"].startswith(">=")
            assert costs["application data"].startswith(f"at most {found.application_bytes} bytes")
            assert costs["TLS: handshake, headers, tags, alerts"].startswith("at least ")
        else:
            assert application_bytes(found) == (6, 18)
            assert (cells["bytes"], cells["overhead"][0]) == ("~24", "~")


def joined(flights: list[Flight]) -> list[Flight]:
    """What the client sent after its ClientHello comes in one packet with its Finished."""
    _, finished, *later = [at for at, (side, _) in enumerate(flights) if side is Side.CLIENT]
    whole = b"".join(flights[at][1] for at in (finished, *later))
    flights = [one for at, one in enumerate(flights) if at not in later]
    flights[finished] = Side.CLIENT, whole
    return flights


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (("-alpn", "one", "-groups", "P-256"), True),
        # Another application protocol than the session's; and a HelloRetryRequest.
        (("-alpn", "other,one", "-groups", "P-256"), False),
        (("-alpn", "one", "-groups", "X25519:P-256"), False),
    ],
)
async def test_early_data_counts_where_the_server_accepted_it(
    tmp_path: Path, options: tuple[str, ...], accepted: bool
) -> None:
    keys, session, early = tmp_path / "keys", tmp_path / "session.pem", tmp_path / "early"
    early.write_bytes(EARLY)
    allowed = ("-tls1_3", "-early_data", "-max_early_data", "4096", "-no_anti_replay")
    async with programs(tmp_path, keys, *allowed, "-alpn", "other,one", "-groups", "P-256") as run:
        async with run.client("-alpn", "one", "-groups", "P-256", "-sess_out", str(session)) as client:
            await both_ways(run, client, before=0)
        async with run.client(*options, "-sess_in", str(session), "-early_data", str(early)) as client:
            flights = await both_ways(run, client, before=1)
    known, found = told(flights, keys), told(flights)
    sent = len(ASKED) + len(EARLY) * accepted
    assert (known.estimated, application_bytes(known)) == (False, (sent, len(ANSWERED)))
    # A single session ticket after the client's data can't be told from the server's data.
    assert (found.estimated, found.client.application_bytes) == (True, sent)
    assert [one.target for one in known.requests] == (["/early"] if accepted else [])


@pytest.mark.parametrize("knows", [True, False], ids=["the same server", "a server without the session"])
async def test_early_data_of_a_connection_that_did_not_resume_counts_as_none(tmp_path: Path, knows: bool) -> None:
    keys, session, early = tmp_path / "keys", tmp_path / "session.pem", tmp_path / "early"
    early.write_bytes(EARLY)
    allowed = ("-tls1_3", "-early_data", "-max_early_data", "4096", "-no_anti_replay")
    async with programs(tmp_path, keys, *allowed) as first, programs(tmp_path, keys, *allowed) as second:
        async with first.client("-sess_out", str(session)) as client:
            await both_ways(first, client, before=0)
        run = first if knows else second
        async with run.client("-sess_in", str(session), "-early_data", str(early)) as client:
            flights = await both_ways(run, client, before=int(knows))
    known, found = told(flights, keys), told(flights)
    assert known.handshake is not None
    assert known.handshake.resumed == ("yes" if knows else "no")
    sent = len(ASKED) + len(EARLY) * knows
    assert (known.estimated, application_bytes(known)) == (False, (sent, len(ANSWERED)))
    assert (found.estimated, found.client.application_bytes) == (True, sent)
