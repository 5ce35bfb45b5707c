# Generated from spire/svid.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file

_messages = add_file(
    b'\n\x10spire/svid.proto\x12\x18spir'
    b'e.api.server.svid.v1"S\n\x1a'
    b'NewDownstreamX509CAReque'
    b'st\x12\x10\n\x03csr\x18\x01 \x01(\x0cR\x03csr\x12#\n\r'
    b'preferred_ttl\x18\x02 \x01(\x05R\x0cpre'
    b'ferredTtl"l\n\x1bNewDownstre'
    b'amX509CAResponse\x12"\n\rca_c'
    b'ert_chain\x18\x01 \x03(\x0cR\x0bcaCertC'
    b'hain\x12)\n\x10x509_authorities'
    b'\x18\x02 \x03(\x0cR\x0fx509Authorities2'
    b'\x8b\x01\n\x04SVID\x12\x82\x01\n\x13NewDownstre'
    b'amX509CA\x124.spire.api.ser'
    b'ver.svid.v1.NewDownstrea'
    b'mX509CARequest\x1a5.spire.a'
    b'pi.server.svid.v1.NewDow'
    b'nstreamX509CAResponseb\x06p'
    b'roto3'
)
NewDownstreamX509CARequest = _messages["NewDownstreamX509CARequest"]
NewDownstreamX509CAResponse = _messages["NewDownstreamX509CAResponse"]
