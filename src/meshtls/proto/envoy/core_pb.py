# Generated from envoy/core.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.wellknown as wellknown

_messages = add_file(
    b'\n\x10envoy/core.proto\x12\x14envo'
    b'y.config.core.v3\x1a\x19google'
    b'/protobuf/any.proto\x1a\x1egoo'
    b'gle/protobuf/wrappers.pr'
    b'oto"\x83\x01\n\nDataSource\x12\x1c\n\x08fi'
    b'lename\x18\x01 \x01(\tH\x00R\x08filename'
    b'\x12#\n\x0cinline_bytes\x18\x02 \x01(\x0cH\x00'
    b'R\x0binlineBytes\x12%\n\rinline_'
    b'string\x18\x03 \x01(\tH\x00R\x0cinlineSt'
    b'ringB\x0b\n\tspecifier"c\n\x14Typ'
    b'edExtensionConfig\x12\x12\n\x04nam'
    b'e\x18\x01 \x01(\tR\x04name\x127\n\x0ctyped_c'
    b'onfig\x18\x02 \x01(\x0b2\x14.google.pro'
    b'tobuf.AnyR\x0btypedConfig"b'
    b'\n\x07Address\x12L\n\x0esocket_addr'
    b'ess\x18\x01 \x01(\x0b2#.envoy.config'
    b'.core.v3.SocketAddressH\x00'
    b'R\rsocketAddressB\t\n\x07addre'
    b'ss"\\\n\rSocketAddress\x12\x18\n\x07a'
    b'ddress\x18\x02 \x01(\tR\x07address\x12\x1f\n'
    b'\nport_value\x18\x03 \x01(\rH\x00R\tpor'
    b'tValueB\x10\n\x0eport_specifier'
    b'"R\n\x0bHeaderValue\x12\x10\n\x03key\x18\x01'
    b' \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\t'
    b'R\x05value\x12\x1b\n\traw_value\x18\x03 \x01'
    b'(\x0cR\x08rawValue"\xe2\x02\n\x11HeaderV'
    b'alueOption\x129\n\x06header\x18\x01 \x01'
    b'(\x0b2!.envoy.config.core.v'
    b'3.HeaderValueR\x06header\x122\n'
    b'\x06append\x18\x02 \x01(\x0b2\x1a.google.p'
    b'rotobuf.BoolValueR\x06appen'
    b'd\x12_\n\rappend_action\x18\x03 \x01(\x0e'
    b'2:.envoy.config.core.v3.'
    b'HeaderValueOption.Header'
    b'AppendActionR\x0cappendActi'
    b'on"}\n\x12HeaderAppendAction'
    b'\x12\x1b\n\x17APPEND_IF_EXISTS_OR_'
    b'ADD\x10\x00\x12\x11\n\rADD_IF_ABSENT\x10\x01'
    b'\x12\x1e\n\x1aOVERWRITE_IF_EXISTS_'
    b'OR_ADD\x10\x02\x12\x17\n\x13OVERWRITE_IF'
    b'_EXISTS\x10\x03b\x06proto3'
)
DataSource = _messages["DataSource"]
TypedExtensionConfig = _messages["TypedExtensionConfig"]
Address = _messages["Address"]
SocketAddress = _messages["SocketAddress"]
HeaderValue = _messages["HeaderValue"]
HeaderValueOption = _messages["HeaderValueOption"]
