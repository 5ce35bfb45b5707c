# Generated from envoy/discovery.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.wellknown as wellknown

_messages = add_file(
    b'\n\x15envoy/discovery.proto\x12'
    b'\x1aenvoy.service.discovery'
    b'.v3\x1a\x19google/protobuf/any'
    b'.proto";\n\x0bErrorDetail\x12\x12\n'
    b'\x04code\x18\x01 \x01(\x05R\x04code\x12\x18\n\x07mes'
    b'sage\x18\x02 \x01(\tR\x07message"\xea\x01\n\x10'
    b'DiscoveryRequest\x12!\n\x0cvers'
    b'ion_info\x18\x01 \x01(\tR\x0bversionI'
    b'nfo\x12%\n\x0eresource_names\x18\x03 '
    b'\x03(\tR\rresourceNames\x12\x19\n\x08ty'
    b'pe_url\x18\x04 \x01(\tR\x07typeUrl\x12%\n'
    b'\x0eresponse_nonce\x18\x05 \x01(\tR\rr'
    b'esponseNonce\x12J\n\x0cerror_de'
    b"tail\x18\x06 \x01(\x0b2'.envoy.servi"
    b'ce.discovery.v3.ErrorDet'
    b'ailR\x0berrorDetail"\x9b\x01\n\x11Dis'
    b'coveryResponse\x12!\n\x0cversio'
    b'n_info\x18\x01 \x01(\tR\x0bversionInf'
    b'o\x122\n\tresources\x18\x02 \x03(\x0b2\x14.g'
    b'oogle.protobuf.AnyR\treso'
    b'urces\x12\x19\n\x08type_url\x18\x04 \x01(\tR'
    b'\x07typeUrl\x12\x14\n\x05nonce\x18\x05 \x01(\tR'
    b'\x05nonce"\xf6\x03\n\x15DeltaDiscover'
    b'yRequest\x12\x19\n\x08type_url\x18\x02 \x01'
    b'(\tR\x07typeUrl\x128\n\x18resource_'
    b'names_subscribe\x18\x03 \x03(\tR\x16r'
    b'esourceNamesSubscribe\x12<\n'
    b'\x1aresource_names_unsubscr'
    b'ibe\x18\x04 \x03(\tR\x18resourceNames'
    b'Unsubscribe\x12\x8a\x01\n\x19initial_'
    b'resource_versions\x18\x05 \x03(\x0b2'
    b'N.envoy.service.discover'
    b'y.v3.DeltaDiscoveryReque'
    b'st.InitialResourceVersio'
    b'nsEntryR\x17initialResource'
    b'Versions\x12%\n\x0eresponse_non'
    b'ce\x18\x06 \x01(\tR\rresponseNonce\x12'
    b"J\n\x0cerror_detail\x18\x07 \x01(\x0b2'."
    b'envoy.service.discovery.'
    b'v3.ErrorDetailR\x0berrorDet'
    b'ail\x1aJ\n\x1cInitialResourceVe'
    b'rsionsEntry\x12\x10\n\x03key\x18\x01 \x01(\t'
    b'R\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05va'
    b'lue:\x028\x01"\xea\x01\n\x16DeltaDiscove'
    b'ryResponse\x12.\n\x13system_ver'
    b'sion_info\x18\x01 \x01(\tR\x11systemV'
    b'ersionInfo\x12B\n\tresources\x18'
    b'\x02 \x03(\x0b2$.envoy.service.di'
    b'scovery.v3.ResourceR\tres'
    b'ources\x12\x19\n\x08type_url\x18\x04 \x01(\t'
    b'R\x07typeUrl\x12\x14\n\x05nonce\x18\x05 \x01(\t'
    b'R\x05nonce\x12+\n\x11removed_resou'
    b'rces\x18\x06 \x03(\tR\x10removedResou'
    b'rces"j\n\x08Resource\x12\x18\n\x07vers'
    b'ion\x18\x01 \x01(\tR\x07version\x120\n\x08re'
    b'source\x18\x02 \x01(\x0b2\x14.google.pr'
    b'otobuf.AnyR\x08resource\x12\x12\n\x04'
    b'name\x18\x03 \x01(\tR\x04nameb\x06proto3'
)
ErrorDetail = _messages["ErrorDetail"]
DiscoveryRequest = _messages["DiscoveryRequest"]
DiscoveryResponse = _messages["DiscoveryResponse"]
DeltaDiscoveryRequest = _messages["DeltaDiscoveryRequest"]
DeltaDiscoveryResponse = _messages["DeltaDiscoveryResponse"]
Resource = _messages["Resource"]
