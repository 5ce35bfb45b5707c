"""Helpers for methods of gRPC services: the request message of a unary call, and our errors as gRPC statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from meshtls import errors

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage

__all__ = ["grpc_error", "received", "status_of"]

M = TypeVar("M", bound="IProtoMessage")

_STATUS: dict[type[errors.MeshtlsError], Status] = {
    errors.NotFoundError: Status.NOT_FOUND,
    errors.ConflictError: Status.ALREADY_EXISTS,
    errors.RequestError: Status.INVALID_ARGUMENT,
    errors.AccessError: Status.PERMISSION_DENIED,
    errors.ValidityError: Status.UNAUTHENTICATED,
    errors.PeerError: Status.PERMISSION_DENIED,
    errors.OverloadError: Status.RESOURCE_EXHAUSTED,
    errors.StoreError: Status.UNAVAILABLE,
    errors.LocalIdentityError: Status.UNAVAILABLE,
    errors.TokenError: Status.UNAVAILABLE,
    errors.ConfigError: Status.FAILED_PRECONDITION,
    errors.MeshtlsError: Status.INTERNAL,
}


def status_of(error: errors.MeshtlsError) -> Status:
    """The status of the error's most specific class."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def grpc_error(error: errors.MeshtlsError) -> GRPCError:
    return GRPCError(status_of(error), str(error))


async def received(stream: Stream[M, Any]) -> M:
    """The request message of a call. Raises RequestError if the caller ended the call without one."""
    message = await stream.recv_message()
    if message is None:
        raise errors.RequestError("wanted a message, got the end of the call")
    return message
