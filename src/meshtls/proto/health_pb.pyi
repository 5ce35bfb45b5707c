# Generated from health.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message

class HealthCheckRequest(Message):
    service: str
    def __init__(self, *, service: str | None = ...) -> None: ...
class HealthCheckResponse(Message):
    status: int
    def __init__(self, *, status: int | None = ...) -> None: ...
