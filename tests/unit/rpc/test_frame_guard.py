"""The frame guard gives the same result however the bytes are split."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.raw_http2 import DATA, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame
from meshtls.rpc.admission import CallerBudgets
from meshtls.rpc.frame_guard import CALL_COST, FloodError, FrameGuard
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.shedding import Refusal
from meshtls.wire.http2.frames import END_STREAM, PADDED

GREETING = PREFACE + frame(SETTINGS, 0, 0)
PLENTY = 1 << 30


def guard(**limits: float) -> FrameGuard:
    chosen = replace(ListenerLimits(), **limits)  # type: ignore[arg-type]
    return FrameGuard(CallerBudgets("uid 1", chosen, 0.0), chosen, 0.0)


@given(st.lists(st.integers(1, 60), max_size=40))
def test_a_flood_is_detected_however_its_bytes_are_split(pieces: list[int]) -> None:
    judge = guard(idle_frames_per_second=1.0)
    data = bytearray(GREETING + frame(PING, 0, 0, bytes(8)) * 40)

    def feed() -> None:
        rest = data
        for piece in (*pieces, len(data)):
            part, rest = rest[:piece], rest[piece:]
            assert judge.scan(part, PLENTY, 0.0) == len(part)

    with pytest.raises(FloodError, match=f"^{Refusal.IDLE_FRAMES.value}$"):
        feed()


def test_a_turn_handles_a_few_calls_and_the_next_turn_continues() -> None:
    judge = guard()
    call = frame(HEADERS, END_HEADERS, 1, b"abc")
    data = bytearray(GREETING + call + frame(HEADERS, END_HEADERS, 3, b"abc") * 1)
    taken = judge.scan(data, CALL_COST, 0.0)
    # The header of the second call's frame is not inspected yet.
    assert taken < len(data)
    del data[:taken]
    assert list(judge.streams) == [1]
    assert judge.scan(data, PLENTY, 0.0) == len(data)
    assert list(judge.streams) == [1, 3]


@pytest.mark.parametrize(
    ("flags", "length", "refused"),
    [(0, 10, True), (PADDED, 257, True), (0, 257, False), (PADDED | END_STREAM, 257, False)],
    ids=["few bytes", "padding", "as many bytes of data", "padding at the end"],
)
def test_data_frames_without_much_data_have_a_budget(flags: int, length: int, refused: bool) -> None:
    judge = guard(idle_frames_per_second=0.001)
    calls = b"".join(frame(HEADERS, END_HEADERS, number, b"abc") for number in range(1, 200, 2))
    judge.scan(bytearray(GREETING + calls), PLENTY, 0.0)
    pieces = b"".join(frame(DATA, flags, number, bytes(length)) for number in range(1, 200, 2)) * 10
    if refused:
        with pytest.raises(FloodError, match=f"^{Refusal.IDLE_FRAMES.value}$"):
            judge.scan(bytearray(pieces), PLENTY, 0.0)
    else:
        judge.scan(bytearray(pieces), PLENTY, 0.0)


def test_frames_that_respond_to_ours_cost_no_budget() -> None:
    judge = guard(idle_frames_per_second=0.001)
    judge.scan(bytearray(GREETING), PLENTY, 0.0)
    for _ in range(100):
        judge.sent_data()
        judge.scan(bytearray(frame(8, 0, 0, b"\0\0\0\1") * 2), PLENTY, 0.0)
    with pytest.raises(FloodError):
        judge.scan(bytearray(frame(8, 0, 0, b"\0\0\0\1") * 1000), PLENTY, 0.0)


def test_the_age_of_an_incomplete_frame_is_known() -> None:
    judge = guard()
    judge.scan(bytearray(GREETING), PLENTY, 0.0)
    assert judge.unfinished_since is None
    whole = frame(HEADERS, END_HEADERS, 1, b"abc") + frame(DATA, 0, 1, bytes(100))
    judge.scan(bytearray(whole[:50]), PLENTY, 1.0)
    judge.scan(bytearray(whole[50:60]), PLENTY, 2.0)
    assert judge.unfinished_since == 1.0
    judge.scan(bytearray(whole[60:]), PLENTY, 3.0)
    assert judge.unfinished_since is None


@pytest.mark.parametrize("answered", [False, True])
def test_a_reset_costs_a_caller_nothing_once_it_was_answered(answered: bool) -> None:
    judge = guard(resets_per_second=0.1)
    judge.scan(bytearray(GREETING), PLENTY, 0.0)
    for number in (1, 3):
        judge.scan(bytearray(frame(HEADERS, END_HEADERS, number)), PLENTY, 0.0)
        if answered:
            judge.answered(number)
    judge.scan(bytearray(frame(RST_STREAM, 0, 1, bytes(4))), PLENTY, 0.0)
    if answered:
        judge.scan(bytearray(frame(RST_STREAM, 0, 3, bytes(4))), PLENTY, 0.0)
    else:
        with pytest.raises(FloodError, match=f"^{Refusal.RESETS.value}$"):
            judge.scan(bytearray(frame(RST_STREAM, 0, 3, bytes(4))), PLENTY, 0.0)
