"""The client of the interim CA service. The Workload API is to replace this pair."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.agent.ca_messages import MAX_LINE, Reply, Request, decode, encode, issued_of
from meshtls.agent.issuer import Issued
from meshtls.agent.unix_socket import abandon
from meshtls.errors import LocalIdentityError, RequestError

__all__ = ["SocketIssuer"]


class SocketIssuer:
    """An Issuer over the CA service's Unix socket: one connection per request, ``timeout`` seconds for all of it."""

    def __init__(self, socket_path: Path, timeout: float = 10.0) -> None:
        self._path = socket_path
        self._timeout = timeout

    async def issue(self, csr_der: bytes) -> Issued:
        """Raises LocalIdentityError where nobody answers, and with the service's own words where it refuses."""
        reply = await self._ask(Request(_pem(csr_der)))
        if reply.error:
            raise LocalIdentityError(f"the CA at {self._path} refused: {reply.error}")
        try:
            return issued_of(reply)
        except RequestError as error:
            raise LocalIdentityError(f"the CA at {self._path} answered what can't be read: {error}") from error

    def __repr__(self) -> str:
        return f"<SocketIssuer {self._path}>"

    async def _ask(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._exchange(encode(request))
        except TimeoutError as error:
            raise LocalIdentityError(f"the CA at {self._path} gave no answer in {self._timeout:g} s") from error
        except OSError as error:
            raise LocalIdentityError(
                f"no CA answers at {self._path} ({error.strerror or error});"
                " start the CA there, or give the path of its socket"
            ) from error
        try:
            return decode(line, Reply)
        except RequestError as error:
            raise LocalIdentityError(f"the CA at {self._path} answered what can't be read: {error}") from error

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        try:
            # Not drained: the service may have answered and closed by then, and that is no failure.
            writer.write(line)
            return await reader.readline()
        except ValueError as error:
            raise LocalIdentityError(f"the CA at {self._path} answered more than {MAX_LINE} bytes") from error
        finally:
            await abandon(writer)


def _pem(csr_der: bytes) -> str:
    return x509.load_der_x509_csr(csr_der).public_bytes(Encoding.PEM).decode()
