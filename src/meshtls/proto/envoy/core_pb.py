# Generated from envoy/core.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.wellknown as wellknown

_messages = add_file(
    b'\n\x10envoy/core.proto\x12\x14envo'
    b'y.config.core.v3\x1a\x19google'
    b'/protobuf/any.proto"\x83\x01\n\n'
    b'DataSource\x12\x1c\n\x08filename\x18\x01'
    b' \x01(\tH\x00R\x08filename\x12#\n\x0cinli'
    b'ne_bytes\x18\x02 \x01(\x0cH\x00R\x0binline'
    b'Bytes\x12%\n\rinline_string\x18\x03'
    b' \x01(\tH\x00R\x0cinlineStringB\x0b\n\t'
    b'specifier"c\n\x14TypedExtens'
    b'ionConfig\x12\x12\n\x04name\x18\x01 \x01(\tR'
    b'\x04name\x127\n\x0ctyped_config\x18\x02 '
    b'\x01(\x0b2\x14.google.protobuf.An'
    b'yR\x0btypedConfigb\x06proto3'
)
DataSource = _messages["DataSource"]
TypedExtensionConfig = _messages["TypedExtensionConfig"]
