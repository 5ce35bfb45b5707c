"""Every cell of an exchange's table."""

from __future__ import annotations

import pytest

from meshtls.wire.http import Forward, HttpRequest
from meshtls.wire.http2.exchange import NEXT, Exchange, Phase, Turn
from meshtls.wire.http2.requests import RequestHead
from meshtls.wire.http2.side import HttpStream

REQUEST = HttpRequest("GET", "db.test", "/")
TO = {
    (Phase.JUDGING, Turn.ALLOWED): Phase.WAITING,
    (Phase.WAITING, Turn.OPENED): Phase.SENT,
    (Phase.WAITING, Turn.OUTDATED): Phase.JUDGING,
    (Phase.SENT, Turn.RESPONDED): Phase.ANSWERED,
    **{(phase, Turn.STOPPED): Phase.OVER for phase in Phase},
}


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("phase", Phase)
def test_a_turn_leads_where_the_table_says_and_nowhere_else(phase: Phase, turn: Turn) -> None:
    exchange = Exchange(HttpStream(1, 0, 0), RequestHead(REQUEST, b"https", b""), None)
    exchange.phase = phase
    if (phase, turn) in TO:
        exchange.step(turn)
        assert exchange.phase is TO[phase, turn]
    else:
        with pytest.raises(KeyError):
            exchange.step(turn)
    assert set(NEXT) == set(Phase)


@pytest.mark.parametrize(("phase", "told"), [(Phase.WAITING, [0]), (Phase.SENT, [0]), (Phase.ANSWERED, [])])
def test_an_exchange_that_stops_without_an_answer_says_so_once(phase: Phase, told: list[int]) -> None:
    statuses: list[int] = []
    exchange = Exchange(HttpStream(1, 0, 0), RequestHead(REQUEST, b"https", b""), None)
    exchange.forward, exchange.phase = Forward(REQUEST, statuses.append), phase
    exchange.stop()
    exchange.stop()
    assert statuses == told
    assert repr(exchange) == "<Exchange 1 OVER>"
