"""A listener that publishes CRLs and answers OCSP over HTTP, to anyone: one request per connection.

Whatever a client does is bounded: the connections, a request's bytes, the time of each connection, and the signatures:
at most ``signatures`` are made a second, beyond which a client is told to try later. Answers without a nonce are kept,
and cost no signature until they are half as old as they may become.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

from meshtls.budget import Budget
from meshtls.clock import Clock
from meshtls.counted_log import CountedLog
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.memo import keep_newest
from meshtls.revocation.ocsp import MAX_REQUEST_BYTES, CertificateState, OcspFault, OcspSigner
from meshtls.revocation.publishing import (
    CrlFile,
    HttpAnswer,
    StatusQuestion,
    crl_answer,
    fault_answer,
    read,
    told,
)
from meshtls.rpc.brief_connections import closing_head, serve_briefly
from meshtls.rpc.tls_socket import Bytes
from meshtls.wire.http import HttpLimits
from meshtls.wire.http1.fields import END, MessageError
from meshtls.wire.http1.request import CHUNKED, RequestHead, request_of

__all__ = ["RevocationLookup", "answer_head", "serve_revocation"]

_SECONDS = 30.0
_LIMITS = HttpLimits(header_bytes=1 << 15, header_count=50, uri_length=2 * MAX_REQUEST_BYTES + 64)
_KEPT = 4096
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logger("meshtls.rpc")


class RevocationLookup(Protocol):
    """What is published: the server's store, or a test's tables."""

    async def crl(self, name: str) -> CrlFile | None:
        """The newest CRL of this name, which is a client's text; None if there is none. May raise a MeshtlsError."""

    async def state(self, signer: OcspSigner, serial_number: int) -> CertificateState:
        """What is known of the signer's issuer's certificate with this serial number. May raise StoreError."""

    def signers(self) -> Sequence[OcspSigner]:
        """One for each issuer whose certificates are answered for."""


@asynccontextmanager
async def serve_revocation(
    listener: socket.socket,
    lookup: RevocationLookup,
    clock: Clock,
    *,
    validity: timedelta = timedelta(seconds=60),
    signatures: float = 500.0,
) -> AsyncIterator[RevocationListener]:
    """Answer requests on ``listener``, which listens already and does not block, while the body runs.

    ``validity`` is from an OCSP response's update to its next: so long may a revocation go unnoticed by a client that
    keeps responses, and by the responses that are kept here half of it. ``signatures`` are per second.
    """
    serving = RevocationListener(lookup, clock, validity, signatures)
    async with serve_briefly("revocation", listener, serving.serve, _SECONDS, serving.log):
        yield serving


class RevocationListener:
    """Answers on each connection. ``forget`` drops the kept answers: call it when something was revoked."""

    def __init__(self, lookup: RevocationLookup, clock: Clock, validity: timedelta, signatures: float) -> None:
        self._lookup, self._clock, self._validity = lookup, clock, validity
        self.log = CountedLog(log)
        self._budget = Budget(signatures, asyncio.get_running_loop().time(), saved_seconds=1.0)
        self._kept: OrderedDict[tuple[object, ...], tuple[datetime, HttpAnswer]] = OrderedDict()
        self._generation = 0

    def forget(self) -> None:
        """Drop the kept answers, and those that are under way."""
        self._generation += 1
        self._kept.clear()

    async def serve(self, sock: socket.socket) -> None:
        """Answer its request. Raises OSError."""
        link = Bytes(sock)
        try:
            found = await self._request(link)
        except MessageError as error:
            answer, bodiless = HttpAnswer(error.status, f"{error}\n".encode()), False
        else:
            if found is None:
                return
            head, body = found
            answer = await self._answer(head, body)
            bodiless = head.request.method == "HEAD"
        await link.send(answer_head(answer))
        if not bodiless:
            await link.send(answer.body)
        await link.finish()

    async def _request(self, link: Bytes) -> tuple[RequestHead, bytes] | None:
        """None if the client closed before its request was complete. Raises MessageError."""
        data = b""
        while END not in data:
            if len(data) > _LIMITS.header_bytes:
                raise MessageError(f"wanted a head of at most {_LIMITS.header_bytes} bytes, got more", 431)
            received = await link.receive()
            if not received:
                return None
            data += received
        section, _, body = data.partition(END)
        head = request_of(section, _LIMITS, {})
        if head.length == CHUNKED or head.length > MAX_REQUEST_BYTES:
            raise MessageError(f"wanted a body of at most {MAX_REQUEST_BYTES} bytes, with a Content-Length", 413)
        if head.expects:
            await link.send(_CONTINUE)
        while len(body) < head.length:
            received = await link.receive()
            if not received:
                return None
            body += received
        return head, body[: head.length]

    async def _answer(self, head: RequestHead, body: bytes) -> HttpAnswer:
        request = head.request
        fields = dict(reversed(request.headers))
        wanted = read(request.method, request.path, fields.get("content-type", ""), body, self._lookup.signers())
        if isinstance(wanted, HttpAnswer):
            return wanted
        try:
            if isinstance(wanted, str):
                return crl_answer(await self._lookup.crl(wanted), fields.get("if-none-match"), self._clock.now())
            return await self._status(wanted)
        except MeshtlsError as error:  # the store, or the token with the key that signs
            self.log.warning("unavailable", f"revocation listener: {error}")
            if isinstance(wanted, str):
                return HttpAnswer(503, b"there is no CRL at present\n")
            return fault_answer(OcspFault.TRY_LATER)

    async def _status(self, question: StatusQuestion) -> HttpAnswer:
        query, now = question.query, self._clock.now()
        key = (
            question.signer.certificate,
            query.algorithm.name,
            query.issuer_name_hash,
            query.serial_number,
            question.cacheable,
        )
        if query.nonce is None and key in self._kept:
            since, answer = self._kept[key]
            if timedelta(0) <= now - since <= self._validity / 2:
                return answer
        if not self._budget.take(1, asyncio.get_running_loop().time()):
            return fault_answer(OcspFault.TRY_LATER)
        generation = self._generation
        state = await self._lookup.state(question.signer, query.serial_number)
        answer = told(question, state, now, now + self._validity)
        if query.nonce is None and generation == self._generation:
            keep_newest(self._kept, key, (now, answer), _KEPT)
        return answer

    def __repr__(self) -> str:
        return f"<RevocationListener [{len(self._kept)} answers kept]>"


def answer_head(answer: HttpAnswer) -> bytes:
    """The head of the response; the connection closes after it."""
    content = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
    return closing_head(answer.status, [*(content if answer.status != 304 else ()), *answer.headers.items()])
