# Generated from envoy/tls.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.envoy.core_pb as envoy_core_pb

_messages = add_file(
    b'\n\x0fenvoy/tls.proto\x12)envoy'
    b'.extensions.transport_so'
    b'ckets.tls.v3\x1a\x10envoy/core'
    b'.proto"\x84\x02\n\x06Secret\x12\x12\n\x04nam'
    b'e\x18\x01 \x01(\tR\x04name\x12d\n\x0ftls_cer'
    b'tificate\x18\x02 \x01(\x0b29.envoy.e'
    b'xtensions.transport_sock'
    b'ets.tls.v3.TlsCertificat'
    b'eH\x00R\x0etlsCertificate\x12x\n\x12v'
    b'alidation_context\x18\x04 \x01(\x0b2'
    b'G.envoy.extensions.trans'
    b'port_sockets.tls.v3.Cert'
    b'ificateValidationContext'
    b'H\x00R\x11validationContextB\x06\n'
    b'\x04type"\xa2\x01\n\x0eTlsCertificate'
    b'\x12M\n\x11certificate_chain\x18\x01 '
    b'\x01(\x0b2 .envoy.config.core.'
    b'v3.DataSourceR\x10certifica'
    b'teChain\x12A\n\x0bprivate_key\x18\x02'
    b' \x01(\x0b2 .envoy.config.core'
    b'.v3.DataSourceR\nprivateK'
    b'ey"\xc3\x01\n\x1cCertificateValida'
    b'tionContext\x12?\n\ntrusted_c'
    b'a\x18\x01 \x01(\x0b2 .envoy.config.c'
    b'ore.v3.DataSourceR\ttrust'
    b'edCa\x12b\n\x17custom_validator'
    b'_config\x18\x0c \x01(\x0b2*.envoy.co'
    b'nfig.core.v3.TypedExtens'
    b'ionConfigR\x15customValidat'
    b'orConfig"\xfa\x01\n\x19SPIFFECertV'
    b'alidatorConfig\x12u\n\rtrust_'
    b'domains\x18\x01 \x03(\x0b2P.envoy.ex'
    b'tensions.transport_socke'
    b'ts.tls.v3.SPIFFECertVali'
    b'datorConfig.TrustDomainR'
    b'\x0ctrustDomains\x1af\n\x0bTrustDo'
    b'main\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name'
    b'\x12C\n\x0ctrust_bundle\x18\x02 \x01(\x0b2 '
    b'.envoy.config.core.v3.Da'
    b'taSourceR\x0btrustBundleb\x06p'
    b'roto3'
)
Secret = _messages["Secret"]
TlsCertificate = _messages["TlsCertificate"]
CertificateValidationContext = _messages["CertificateValidationContext"]
SPIFFECertValidatorConfig = _messages["SPIFFECertValidatorConfig"]
