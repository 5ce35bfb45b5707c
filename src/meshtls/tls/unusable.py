"""A connection that can't be made because our own side has no identity, in the form that TLS libraries expect.

asyncio asks a context for a connection before it knows the socket: an exception there leaves the socket open, and the
peer waiting, until the garbage collector runs. It handles an ``ssl.SSLError`` that is raised in the handshake.
"""

from __future__ import annotations

import ssl
from typing import Any, NoReturn

from meshtls.errors import LocalIdentityError

__all__ = ["NoIdentityError", "unusable"]


class NoIdentityError(LocalIdentityError, ssl.SSLError):
    """Our own fault, and the end of a handshake: both kinds of ``except`` catch it."""

    def __init__(self, error: LocalIdentityError) -> None:
        super().__init__(1, str(error))
        self.args = (str(error),)  # the arguments of our errors are the lines of their text
        self.library, self.reason = "meshtls", "NO_IDENTITY"  # ssl sets both on its own, and its users read them
        self._error = error

    def __reduce__(self) -> tuple[type[NoIdentityError], tuple[LocalIdentityError]]:
        return type(self), (self._error,)  # an OSError's own would give ``args`` to a constructor that takes one error


class _Unusable(ssl.SSLObject):
    error: LocalIdentityError

    def do_handshake(self) -> NoReturn:
        raise NoIdentityError(self.error) from self.error

    def read(self, len: int = 1024, buffer: Any = None) -> NoReturn:  # noqa: A002  # ssl's own name
        self.do_handshake()

    def write(self, data: Any) -> NoReturn:
        self.do_handshake()


_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_CONTEXT.sslobject_class = _Unusable


def unusable(error: LocalIdentityError, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
    """What raises ``error`` as soon as it is used."""
    connection = _CONTEXT.wrap_bio(incoming, outgoing, server_side=True)
    assert isinstance(connection, _Unusable)  # noqa: S101  # tells the type checker what sslobject_class made
    connection.error = error
    return connection
