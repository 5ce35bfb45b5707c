"""From a compiled .proto to Python source: the messages, their types and the gRPC services. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from meshtls.proto.names import Names, import_lines

__all__ = ["grpc_module", "message_module", "message_types"]

_INTEGERS = ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "FIXED32", "FIXED64", "SFIXED32", "SFIXED64")
_SCALARS = dict.fromkeys(_INTEGERS, "int") | {
    "DOUBLE": "float",
    "FLOAT": "float",
    "BOOL": "bool",
    "STRING": "str",
    "BYTES": "bytes",
    "ENUM": "int",
}
_BYTES_PER_LINE = 24
_HEADER = "# Generated from {} by `python -m meshtls.proto.build`: do not edit.\n# fmt: off\n# ruff: noqa\n"


def message_module(file: FileDescriptorProto) -> str:
    """``<name>_pb.py``: the embedded descriptor and a name for each message and each value of a top-level enum."""
    lines = [_HEADER.format(file.name) + "from meshtls.proto.pool import add_file", *import_lines(file.dependency)]
    data = file.SerializeToString(deterministic=True)
    pieces = [data[start : start + _BYTES_PER_LINE] for start in range(0, len(data), _BYTES_PER_LINE)]
    lines += ["", "_messages = add_file(", *(f"    {piece!r}" for piece in pieces), ")"]
    lines += [f'{message.name} = _messages["{message.name}"]' for message in file.message_type]
    lines += [f"{value.name} = {value.number}" for enum in file.enum_type for value in enum.value]
    return "\n".join(lines).rstrip() + "\n"


def message_types(file: FileDescriptorProto, names: Names) -> str:
    """``<name>_pb.pyi``."""
    lines = [
        _HEADER.format(file.name) + "from collections.abc import Iterable, Mapping",
        "",
        "from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer",
        "from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap",
        "from google.protobuf.message import Message",
        *import_lines(file.dependency),
        "",
        *_enum_values(file.enum_type),
    ]
    lines += [_class(file.name, message, names) for message in file.message_type]
    return "\n".join(lines).rstrip() + "\n"


def grpc_module(file: FileDescriptorProto, names: Names) -> str:
    """``<name>_grpc.py``: a base class and a stub per service, for grpclib."""
    prefix = f"{file.package}." if file.package else ""
    types = [name for service in file.service for one in service.method for name in (one.input_type, one.output_type)]
    lines = [
        _HEADER.format(file.name) + "from __future__ import annotations",
        "",
        "import abc",
        "",
        "from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod",
        "from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod",
        "from grpclib.const import Cardinality, Handler",
        "from grpclib.server import Stream",
        "",
        *import_lines({names.places[name][0] for name in types}),
    ]
    for service in file.service:
        lines += ["", "", _base(service, prefix, names), "", "", _stub(service, prefix, names)]
    return "\n".join(lines).rstrip() + "\n"


def _enum_values(enums: Iterable[EnumDescriptorProto]) -> list[str]:
    return [f"{value.name}: int" for enum in enums for value in enum.value]


def _class(file: str, message: DescriptorProto, names: Names) -> str:
    nested = [_class(file, one, names) for one in message.nested_type if not one.options.map_entry]
    members = [_member(file, field, names) for field in message.field]
    arguments = "".join(f", {field.name}: {_argument(file, field, names)} | None = ..." for field in message.field)
    signature = f"def __init__(self{', *' if arguments else ''}{arguments}) -> None: ..."
    body = [*nested, *_enum_values(message.enum_type), *members, signature]
    return f"class {message.name}(Message):\n" + indent("\n".join(body), "    ")


def _member(file: str, field: FieldDescriptorProto, names: Names) -> str:
    mutable = field.type != field.TYPE_MESSAGE and field.label != field.LABEL_REPEATED
    kind = _kind(file, field, names)
    return f"{field.name}: {kind}" if mutable else f"@property\ndef {field.name}(self) -> {kind}: ..."


def _kind(file: str, field: FieldDescriptorProto, names: Names) -> str:
    entry = names.map_entries.get(field.type_name)
    if entry is not None:
        container = "MessageMap" if entry.field[1].type == field.TYPE_MESSAGE else "ScalarMap"
        return f"{container}[{_one(file, entry.field[0], names)}, {_one(file, entry.field[1], names)}]"
    if field.label != field.LABEL_REPEATED:
        return _one(file, field, names)
    container = (
        "RepeatedCompositeFieldContainer" if field.type == field.TYPE_MESSAGE else "RepeatedScalarFieldContainer"
    )
    return f"{container}[{_one(file, field, names)}]"


def _argument(file: str, field: FieldDescriptorProto, names: Names) -> str:
    entry = names.map_entries.get(field.type_name)
    if entry is not None:
        return f"Mapping[{_one(file, entry.field[0], names)}, {_one(file, entry.field[1], names)}]"
    one = _one(file, field, names)
    return f"Iterable[{one}]" if field.label == field.LABEL_REPEATED else one


def _one(file: str, field: FieldDescriptorProto, names: Names) -> str:
    if field.type == field.TYPE_MESSAGE:
        return names.python(field.type_name, file)
    return _SCALARS[FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_")]


def _cardinality(method: MethodDescriptorProto) -> tuple[str, str]:
    return ("Stream" if method.client_streaming else "Unary"), ("Stream" if method.server_streaming else "Unary")


def _base(service: ServiceDescriptorProto, prefix: str, names: Names) -> str:
    lines = [f"class {service.name}Base(abc.ABC):"]
    for method in service.method:
        stream = f"Stream[{names.python(method.input_type, '')}, {names.python(method.output_type, '')}]"
        lines += ["    @abc.abstractmethod", f"    async def {method.name}(self, stream: {stream}) -> None: ...", ""]
    lines += ["    def __mapping__(self) -> dict[str, Handler]:", "        return {"]
    for method in service.method:
        arguments = f"Cardinality.{'_'.join(_cardinality(method)).upper()}, {_types(method, names)}"
        lines.append(f'            "/{prefix}{service.name}/{method.name}": Handler(self.{method.name}, {arguments}),')
    return "\n".join([*lines, "        }"])


def _stub(service: ServiceDescriptorProto, prefix: str, names: Names) -> str:
    lines = [f"class {service.name}Stub:", "    def __init__(self, channel: Channel) -> None:"]
    for method in service.method:
        path = f'"/{prefix}{service.name}/{method.name}"'
        kind = f"{''.join(_cardinality(method))}Method"
        lines.append(f"        self.{method.name} = {kind}(channel, {path}, {_types(method, names)})")
    return "\n".join(lines)


def _types(method: MethodDescriptorProto, names: Names) -> str:
    return f"{names.python(method.input_type, '')}, {names.python(method.output_type, '')}"
