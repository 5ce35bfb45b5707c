"""Google's well-known types as classes of the private pool: same wire, same helpers (``Struct.update``, ``Any.Pack``).

A type checker is told that they are the classes of ``google.protobuf``, whose members they have. They are not: those
can't be put into a message of ours, so make values with the classes from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.struct_pb2 import ListValue, Struct, Value
    from google.protobuf.timestamp_pb2 import Timestamp
    from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value
else:
    from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

    from meshtls.proto.pool import add_file

    _messages = {}
    for _module in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        _messages |= add_file(_module.DESCRIPTOR.serialized_pb)

    Any, Duration, Empty, Timestamp = (_messages[name] for name in ("Any", "Duration", "Empty", "Timestamp"))
    Struct, Value, ListValue = (_messages[name] for name in ("Struct", "Value", "ListValue"))
    BoolValue, UInt32Value = (_messages[name] for name in ("BoolValue", "UInt32Value"))

__all__ = ["Any", "BoolValue", "Duration", "Empty", "ListValue", "Struct", "Timestamp", "UInt32Value", "Value"]
