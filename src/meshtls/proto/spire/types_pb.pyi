# Generated from spire/types.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message

class Bundle(Message):
    trust_domain: str
    @property
    def x509_authorities(self) -> RepeatedCompositeFieldContainer[X509Certificate]: ...
    @property
    def jwt_authorities(self) -> RepeatedCompositeFieldContainer[JWTKey]: ...
    refresh_hint: int
    sequence_number: int
    def __init__(self, *, trust_domain: str | None = ..., x509_authorities: Iterable[X509Certificate] | None = ..., jwt_authorities: Iterable[JWTKey] | None = ..., refresh_hint: int | None = ..., sequence_number: int | None = ...) -> None: ...
class X509Certificate(Message):
    asn1: bytes
    tainted: bool
    def __init__(self, *, asn1: bytes | None = ..., tainted: bool | None = ...) -> None: ...
class JWTKey(Message):
    public_key: bytes
    key_id: str
    expires_at: int
    tainted: bool
    def __init__(self, *, public_key: bytes | None = ..., key_id: str | None = ..., expires_at: int | None = ..., tainted: bool | None = ...) -> None: ...
