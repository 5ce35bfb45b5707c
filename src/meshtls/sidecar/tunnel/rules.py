"""Short words for rules of the protocol, each raising ProtocolError with the code that goes with it. Pure."""

from __future__ import annotations

from meshtls.sidecar.tunnel.frames import ErrorCode, Kind, ProtocolError

__all__ = ["check", "check_calm", "check_size"]


def check(kept: bool, rule: str) -> None:
    if not kept:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, rule)


def check_calm(kept: bool, rule: str) -> None:
    if not kept:
        raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, rule)


def check_size(kind: Kind, length: int, wanted: int) -> None:
    if length != wanted:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"wanted {kind.name} of {wanted} bytes, got {length}")
