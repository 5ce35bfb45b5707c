# Generated from spire/types.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file

_messages = add_file(
    b'\n\x11spire/types.proto\x12\x0fspi'
    b're.api.types"\x86\x02\n\x06Bundle\x12'
    b'!\n\x0ctrust_domain\x18\x01 \x01(\tR\x0bt'
    b'rustDomain\x12K\n\x10x509_autho'
    b'rities\x18\x02 \x03(\x0b2 .spire.api'
    b'.types.X509CertificateR\x0f'
    b'x509Authorities\x12@\n\x0fjwt_a'
    b'uthorities\x18\x03 \x03(\x0b2\x17.spire'
    b'.api.types.JWTKeyR\x0ejwtAu'
    b'thorities\x12!\n\x0crefresh_hin'
    b"t\x18\x04 \x01(\x03R\x0brefreshHint\x12'\n\x0f"
    b'sequence_number\x18\x05 \x01(\x04R\x0es'
    b'equenceNumber"?\n\x0fX509Cer'
    b'tificate\x12\x12\n\x04asn1\x18\x01 \x01(\x0cR\x04'
    b'asn1\x12\x18\n\x07tainted\x18\x02 \x01(\x08R\x07t'
    b'ainted"w\n\x06JWTKey\x12\x1d\n\npubl'
    b'ic_key\x18\x01 \x01(\x0cR\tpublicKey\x12'
    b'\x15\n\x06key_id\x18\x02 \x01(\tR\x05keyId\x12\x1d'
    b'\n\nexpires_at\x18\x03 \x01(\x03R\texpi'
    b'resAt\x12\x18\n\x07tainted\x18\x04 \x01(\x08R\x07'
    b'taintedb\x06proto3'
)
Bundle = _messages["Bundle"]
X509Certificate = _messages["X509Certificate"]
JWTKey = _messages["JWTKey"]
