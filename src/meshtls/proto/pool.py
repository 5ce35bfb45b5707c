"""The private descriptor pool, and message classes out of it."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["POOL", "add_file"]

POOL = DescriptorPool()


def add_file(serialized: bytes) -> Mapping[str, type[Message]]:
    """Add a serialized FileDescriptorProto, whose dependencies are there already; give its message classes by name."""
    POOL.AddSerializedFile(serialized)
    added: FileDescriptor = POOL.FindFileByName(FileDescriptorProto.FromString(serialized).name)
    return {name: GetMessageClass(one) for name, one in added.message_types_by_name.items()}
