"""The one message of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from grpclib.server import Stream

from meshtls.errors import RequestError

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage

__all__ = ["received"]

M = TypeVar("M", bound="IProtoMessage")


async def received(stream: Stream[M, Any]) -> M:
    """Raises RequestError where the caller hung up instead of sending it."""
    message = await stream.recv_message()
    if message is None:
        raise RequestError("wanted a message, got the end of the call")
    return message
