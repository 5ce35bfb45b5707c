# Generated from spire/bundle.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.spire.types_pb as spire_types_pb

_messages = add_file(
    b'\n\x12spire/bundle.proto\x12\x1asp'
    b'ire.api.server.bundle.v1'
    b'\x1a\x11spire/types.proto"\x12\n\x10G'
    b'etBundleRequest"Z\n\x1aPubli'
    b'shJWTAuthorityRequest\x12<\n'
    b'\rjwt_authority\x18\x01 \x01(\x0b2\x17.s'
    b'pire.api.types.JWTKeyR\x0cj'
    b'wtAuthority"_\n\x1bPublishJW'
    b'TAuthorityResponse\x12@\n\x0fjw'
    b't_authorities\x18\x01 \x03(\x0b2\x17.sp'
    b'ire.api.types.JWTKeyR\x0ejw'
    b'tAuthorities2\xe5\x01\n\x06Bundle\x12'
    b'R\n\tGetBundle\x12,.spire.api'
    b'.server.bundle.v1.GetBun'
    b'dleRequest\x1a\x17.spire.api.t'
    b'ypes.Bundle\x12\x86\x01\n\x13PublishJ'
    b'WTAuthority\x126.spire.api.'
    b'server.bundle.v1.Publish'
    b'JWTAuthorityRequest\x1a7.sp'
    b'ire.api.server.bundle.v1'
    b'.PublishJWTAuthorityResp'
    b'onseb\x06proto3'
)
GetBundleRequest = _messages["GetBundleRequest"]
PublishJWTAuthorityRequest = _messages["PublishJWTAuthorityRequest"]
PublishJWTAuthorityResponse = _messages["PublishJWTAuthorityResponse"]
