"""CRLs and OCSP over HTTP: which answer a request gets (RFC 5280, section 4.2.1.13; RFC 6960, appendix A). Pure.

``GET /crl/<name>`` has a CRL. ``POST /ocsp`` and ``GET /ocsp/<base64>`` ask for a certificate's status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256

from meshtls.revocation.building import CRL_PATH, OCSP_PATH
from meshtls.revocation.ocsp import (
    MAX_REQUEST_BYTES,
    CertificateState,
    OcspError,
    OcspFault,
    OcspQuery,
    OcspSigner,
    build_response,
    fault_response,
    parse_request,
    request_of_path,
)

__all__ = ["CrlFile", "HttpAnswer", "StatusQuestion", "crl_answer", "fault_answer", "read", "told"]

_CRL_TYPE = "application/pkix-crl"
_REQUEST_TYPE, _RESPONSE_TYPE = "application/ocsp-request", "application/ocsp-response"


@dataclass(frozen=True, slots=True)
class CrlFile:
    """A CRL as it is published."""

    der: bytes
    this_update: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """An OCSP request that ``signer`` can answer, once it is told the certificate's state."""

    query: OcspQuery
    signer: OcspSigner
    cacheable: bool


def read(
    method: str, target: str, content_type: str, body: bytes, signers: Iterable[OcspSigner]
) -> HttpAnswer | StatusQuestion | str:
    """What a request asks for: a CRL by its name (a text), a certificate's status, or an answer that is ready."""
    path = target.partition("?")[0]
    if path.startswith(CRL_PATH):
        return path[len(CRL_PATH) :] if method in ("GET", "HEAD") else _not_allowed("GET")
    if path == OCSP_PATH:
        if method != "POST":
            return _not_allowed("POST")
        if content_type.partition(";")[0].strip().lower() != _REQUEST_TYPE:
            return HttpAnswer(415, f"wanted Content-Type: {_REQUEST_TYPE}\n".encode())
        if len(body) > MAX_REQUEST_BYTES:
            return HttpAnswer(413, f"wanted at most {MAX_REQUEST_BYTES} bytes\n".encode())
        return _question(body, signers, cacheable=False)
    if path.startswith(f"{OCSP_PATH}/"):
        if method not in ("GET", "HEAD"):
            return _not_allowed("GET")
        try:
            der = request_of_path(target[len(OCSP_PATH) + 1 :])
        except OcspError as error:
            return fault_answer(error.fault)
        return _question(der, signers, cacheable=True)
    return HttpAnswer(404, b"wanted /crl/<name> or /ocsp\n")


def _question(der: bytes, signers: Iterable[OcspSigner], *, cacheable: bool) -> HttpAnswer | StatusQuestion:
    try:
        query = parse_request(der)
    except OcspError as error:
        return fault_answer(error.fault)
    for signer in signers:
        if signer.answers(query):
            return StatusQuestion(query, signer, cacheable and query.nonce is None)
    return fault_answer(OcspFault.UNAUTHORIZED)


def told(question: StatusQuestion, state: CertificateState, now: datetime, next_update: datetime) -> HttpAnswer:
    """The signed answer. One to a GET without a nonce may be kept by caches until ``next_update``."""
    der = build_response(question.query, question.signer, state, now, next_update)
    headers = _kept(now, next_update) if question.cacheable else {"Cache-Control": "no-store"}
    return HttpAnswer(200, der, _RESPONSE_TYPE, headers)


def fault_answer(fault: OcspFault) -> HttpAnswer:
    """An OCSP response that is an error. HTTP's own status is 200 (RFC 6960, appendix A.2)."""
    return HttpAnswer(200, fault_response(fault), _RESPONSE_TYPE, {"Cache-Control": "no-store"})


def crl_answer(file: CrlFile | None, known: str | None, now: datetime) -> HttpAnswer:
    """The CRL, or 304 if ``known``, the If-None-Match of the request, has its entity tag."""
    if file is None:
        return HttpAnswer(404, b"there is no CRL of that name\n")
    tag = f'"{sha256(file.der).hexdigest()[:32]}"'
    modified = format_datetime(file.this_update, usegmt=True)
    headers = {"ETag": tag, **_kept(now, file.next_update), "Last-Modified": modified}
    if known is not None and tag in [one.strip().removeprefix("W/") for one in known.split(",")]:
        return HttpAnswer(304, headers=headers)
    return HttpAnswer(200, file.der, _CRL_TYPE, headers)


def _not_allowed(wanted: str) -> HttpAnswer:
    return HttpAnswer(405, f"wanted {wanted}\n".encode(), headers={"Allow": wanted})


def _kept(now: datetime, next_update: datetime) -> dict[str, str]:
    seconds = max(0, int((next_update - now).total_seconds()))
    return {"Cache-Control": f"max-age={seconds}, public, no-transform, must-revalidate"}
