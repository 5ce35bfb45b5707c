"""gRPC channels to the server, and the errors of a call as ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from meshtls import errors
from meshtls.address import os_reason
from meshtls.bundle import TrustBundle
from meshtls.clock import Clock, SystemClock
from meshtls.policy.authorizer import authorize_id
from meshtls.registration import server_id
from meshtls.serverapi.tls_channel import TlsChannel
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509ContextSource
from meshtls.tls.bootstrap import AnonymousClientContext
from meshtls.tls.context import TlsOptions
from meshtls.tls.failures import peer_error
from meshtls.tls.rotating import client_context

__all__ = ["CALL_SECONDS", "attest_channel", "error_of", "local_channel", "mutual_channel", "our_errors"]

CALL_SECONDS = 15.0
_ALPN = ("h2",)
# As large as the largest message that the server accepts: a batch of entries is one message.
_WINDOWS = Configuration(http2_connection_window_size=2**24, http2_stream_window_size=2**24)
_SILENT = "the server can't be reached: no answer in time"
_ERRORS: dict[int, type[errors.MeshtlsError]] = {
    Status.NOT_FOUND.value: errors.NotFoundError,
    Status.ALREADY_EXISTS.value: errors.ConflictError,
    Status.INVALID_ARGUMENT.value: errors.RequestError,
    Status.PERMISSION_DENIED.value: errors.AccessError,
    Status.FAILED_PRECONDITION.value: errors.ConfigError,
}


def local_channel(path: Path) -> Channel:
    """A channel to the admin socket. It connects at the first call; close it after use."""
    return Channel(path=str(path), config=_WINDOWS)


def mutual_channel(
    host: str,
    port: int,
    source: X509ContextSource,
    trust_domain: TrustDomain,
    clock: Clock = SystemClock(),
    *,
    server: SpiffeId | None = None,
) -> TlsChannel:
    """A channel over mutual TLS with the source's current SVID; only a server of this trust domain is accepted.

    ``server``: the ID of its servers, if it is not that of meshtls servers.
    """
    options = TlsOptions(alpn=_ALPN)
    wanted = authorize_id(server or server_id(trust_domain))
    context = client_context(source, wanted, options=options, clock=clock)
    return TlsChannel(host, port, ssl=context, config=_WINDOWS)


def attest_channel(host: str, port: int, bundle: TrustBundle, clock: Clock = SystemClock()) -> Channel:
    """A channel without client certificate; only a server that this bundle verifies is accepted."""
    wanted = authorize_id(server_id(bundle.trust_domain))
    return TlsChannel(host, port, ssl=AnonymousClientContext.trusting(bundle, wanted, _ALPN, clock), config=_WINDOWS)


def error_of(status: int, message: str) -> errors.MeshtlsError:
    """Our error for a gRPC status; LocalIdentityError for a temporary failure."""
    return _ERRORS.get(status, errors.LocalIdentityError)(message)


@contextmanager
def our_errors() -> Iterator[None]:
    """Translate what a call raises: a gRPC status by ``error_of``, any other failure to LocalIdentityError."""
    try:
        yield
    except GRPCError as error:
        silent = error.status is Status.DEADLINE_EXCEEDED and not error.message
        raise error_of(error.status.value, _SILENT if silent else error.message or error.status.name) from error
    except errors.LocalIdentityError:
        raise  # our own SVID expired before the connection was made; the error is an ssl.SSLError, too
    except ssl.SSLError as error:
        raise errors.LocalIdentityError(f"server authentication failed: {peer_error(error)}") from error
    except (OSError, StreamTerminatedError, ProtocolError) as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # the call's deadline, not TCP's
            raise errors.LocalIdentityError(_SILENT) from error
        why = os_reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise errors.LocalIdentityError(f"the server can't be reached: {why}") from error
