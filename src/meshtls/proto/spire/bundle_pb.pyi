# Generated from spire/bundle.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message
import meshtls.proto.spire.types_pb as spire_types_pb

class GetBundleRequest(Message):
    def __init__(self) -> None: ...
class PublishJWTAuthorityRequest(Message):
    @property
    def jwt_authority(self) -> spire_types_pb.JWTKey: ...
    def __init__(self, *, jwt_authority: spire_types_pb.JWTKey | None = ...) -> None: ...
class PublishJWTAuthorityResponse(Message):
    @property
    def jwt_authorities(self) -> RepeatedCompositeFieldContainer[spire_types_pb.JWTKey]: ...
    def __init__(self, *, jwt_authorities: Iterable[spire_types_pb.JWTKey] | None = ...) -> None: ...
