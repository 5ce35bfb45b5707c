"""From our errors to gRPC's status codes, once for all methods."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from meshtls import errors

__all__ = ["grpc_error", "status_of"]

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
    errors.ConfigError: Status.FAILED_PRECONDITION,
    errors.MeshtlsError: Status.INTERNAL,
}


def status_of(error: errors.MeshtlsError) -> Status:
    """The status of its most specific class."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def grpc_error(error: errors.MeshtlsError) -> GRPCError:
    return GRPCError(status_of(error), str(error))
