# Generated from envoy/core.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message
import meshtls.proto.wellknown as wellknown

class DataSource(Message):
    filename: str
    inline_bytes: bytes
    inline_string: str
    def __init__(self, *, filename: str | None = ..., inline_bytes: bytes | None = ..., inline_string: str | None = ...) -> None: ...
class TypedExtensionConfig(Message):
    name: str
    @property
    def typed_config(self) -> wellknown.Any: ...
    def __init__(self, *, name: str | None = ..., typed_config: wellknown.Any | None = ...) -> None: ...
class Address(Message):
    @property
    def socket_address(self) -> SocketAddress: ...
    def __init__(self, *, socket_address: SocketAddress | None = ...) -> None: ...
class SocketAddress(Message):
    address: str
    port_value: int
    def __init__(self, *, address: str | None = ..., port_value: int | None = ...) -> None: ...
class HeaderValue(Message):
    key: str
    value: str
    raw_value: bytes
    def __init__(self, *, key: str | None = ..., value: str | None = ..., raw_value: bytes | None = ...) -> None: ...
class HeaderValueOption(Message):
    APPEND_IF_EXISTS_OR_ADD: int
    ADD_IF_ABSENT: int
    OVERWRITE_IF_EXISTS_OR_ADD: int
    OVERWRITE_IF_EXISTS: int
    @property
    def header(self) -> HeaderValue: ...
    @property
    def append(self) -> wellknown.BoolValue: ...
    append_action: int
    def __init__(self, *, header: HeaderValue | None = ..., append: wellknown.BoolValue | None = ..., append_action: int | None = ...) -> None: ...
