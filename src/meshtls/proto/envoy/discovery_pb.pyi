# Generated from envoy/discovery.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message
import meshtls.proto.wellknown as wellknown

class ErrorDetail(Message):
    code: int
    message: str
    def __init__(self, *, code: int | None = ..., message: str | None = ...) -> None: ...
class DiscoveryRequest(Message):
    version_info: str
    @property
    def resource_names(self) -> RepeatedScalarFieldContainer[str]: ...
    type_url: str
    response_nonce: str
    @property
    def error_detail(self) -> ErrorDetail: ...
    def __init__(self, *, version_info: str | None = ..., resource_names: Iterable[str] | None = ..., type_url: str | None = ..., response_nonce: str | None = ..., error_detail: ErrorDetail | None = ...) -> None: ...
class DiscoveryResponse(Message):
    version_info: str
    @property
    def resources(self) -> RepeatedCompositeFieldContainer[wellknown.Any]: ...
    type_url: str
    nonce: str
    def __init__(self, *, version_info: str | None = ..., resources: Iterable[wellknown.Any] | None = ..., type_url: str | None = ..., nonce: str | None = ...) -> None: ...
class DeltaDiscoveryRequest(Message):
    type_url: str
    @property
    def resource_names_subscribe(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def resource_names_unsubscribe(self) -> RepeatedScalarFieldContainer[str]: ...
    @property
    def initial_resource_versions(self) -> ScalarMap[str, str]: ...
    response_nonce: str
    @property
    def error_detail(self) -> ErrorDetail: ...
    def __init__(self, *, type_url: str | None = ..., resource_names_subscribe: Iterable[str] | None = ..., resource_names_unsubscribe: Iterable[str] | None = ..., initial_resource_versions: Mapping[str, str] | None = ..., response_nonce: str | None = ..., error_detail: ErrorDetail | None = ...) -> None: ...
class DeltaDiscoveryResponse(Message):
    system_version_info: str
    @property
    def resources(self) -> RepeatedCompositeFieldContainer[Resource]: ...
    type_url: str
    nonce: str
    @property
    def removed_resources(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, system_version_info: str | None = ..., resources: Iterable[Resource] | None = ..., type_url: str | None = ..., nonce: str | None = ..., removed_resources: Iterable[str] | None = ...) -> None: ...
class Resource(Message):
    version: str
    @property
    def resource(self) -> wellknown.Any: ...
    name: str
    def __init__(self, *, version: str | None = ..., resource: wellknown.Any | None = ..., name: str | None = ...) -> None: ...
