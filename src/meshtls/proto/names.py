"""Which Python module and name each .proto file and message gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

__all__ = ["Names", "import_lines", "module_of"]


def module_of(proto: str, kind: str) -> str:
    """``envoy/core.proto``, ``pb`` -> ``envoy.core_pb``."""
    return f"{proto.removesuffix('.proto').replace('/', '.')}_{kind}"


@dataclass(frozen=True, slots=True)
class Names:
    """Where each message of a descriptor set lives: its full protobuf name -> its file and its name in that file."""

    places: dict[str, tuple[str, str]]
    map_entries: dict[str, DescriptorProto]

    @classmethod
    def of(cls, files: Iterable[FileDescriptorProto]) -> Names:
        names = cls({}, {})
        for file in files:
            names._add(file.name, f".{file.package}" if file.package else "", "", file.message_type)
        return names

    def _add(self, file: str, package: str, outer: str, messages: Iterable[DescriptorProto]) -> None:
        for message in messages:
            local = f"{outer}{message.name}"
            self.places[f"{package}.{local}"] = (file, local)
            if message.options.map_entry:
                self.map_entries[f"{package}.{local}"] = message
            self._add(file, package, f"{local}.", message.nested_type)

    def python(self, type_name: str, seen_from: str) -> str:
        """The Python expression for a message type, as module ``seen_from`` writes it."""
        file, local = self.places[type_name]
        return local if file == seen_from else f"{_alias(file)}.{local}"


def import_lines(files: Iterable[str]) -> list[str]:
    """What a module writes at its top to use the messages of these files."""
    return sorted({f"import meshtls.proto.{_module(file)} as {_alias(file)}" for file in files})


def _alias(file: str) -> str:
    return _module(file).replace(".", "_")


def _module(file: str) -> str:
    return "wellknown" if file.startswith("google/protobuf/") else module_of(file, "pb")
