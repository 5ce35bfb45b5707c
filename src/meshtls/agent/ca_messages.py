"""The two messages between the interim CA service and its client: a JSON object on a line each way. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.agent.issuer import Issued
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import RequestError
from meshtls.spiffeid import TrustDomain

__all__ = ["MAX_LINE", "Reply", "Request", "decode", "encode", "issued_of", "reply_of"]

MAX_LINE = 2**20
T = TypeVar("T")


class Request(msgspec.Struct, frozen=True):
    """``csr`` is PEM. There is no name in it: the service knows the caller by its uid."""

    csr: str


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Either ``error``, or a PEM chain leaf first and the SPIFFE bundle documents by trust domain."""

    certificates: str = ""
    bundles: dict[str, msgspec.Raw] = {}
    error: str = ""


def encode(message: Request | Reply) -> bytes:
    """The message as one line."""
    return msgspec.json.format(msgspec.json.encode(message), indent=-1) + b"\n"


def decode(line: bytes, kind: type[T]) -> T:
    """Raises RequestError for a line that holds no such message."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise RequestError(f"wanted one line of JSON: {error}") from error


def reply_of(issued: Issued) -> Reply:
    chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in issued.chain)
    documents = {str(bundle.trust_domain): msgspec.Raw(bundle.to_jwks()) for bundle in issued.bundles}
    return Reply(chain.decode(), documents)


def issued_of(reply: Reply) -> Issued:
    """Raises RequestError where the certificates or a bundle can't be read."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(reply.certificates.encode()))
    except ValueError as error:
        raise RequestError(f"wanted a chain of PEM certificates: {error}") from error
    bundles = [TrustBundle.from_jwks(TrustDomain(name), bytes(text)) for name, text in reply.bundles.items()]
    return Issued(chain, BundleSet(bundles))
