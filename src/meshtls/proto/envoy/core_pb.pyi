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
