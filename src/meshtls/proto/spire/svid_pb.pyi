# Generated from spire/svid.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message

class NewDownstreamX509CARequest(Message):
    csr: bytes
    preferred_ttl: int
    def __init__(self, *, csr: bytes | None = ..., preferred_ttl: int | None = ...) -> None: ...
class NewDownstreamX509CAResponse(Message):
    @property
    def ca_cert_chain(self) -> RepeatedScalarFieldContainer[bytes]: ...
    @property
    def x509_authorities(self) -> RepeatedScalarFieldContainer[bytes]: ...
    def __init__(self, *, ca_cert_chain: Iterable[bytes] | None = ..., x509_authorities: Iterable[bytes] | None = ...) -> None: ...
