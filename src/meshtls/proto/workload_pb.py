# Generated from workload.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.wellknown as wellknown

_messages = add_file(
    b'\n\x0eworkload.proto\x1a\x1cgoogle'
    b'/protobuf/struct.proto"\x11'
    b'\n\x0fX509SVIDRequest"\xe0\x01\n\x10X5'
    b'09SVIDResponse\x12\x1f\n\x05svids\x18'
    b'\x01 \x03(\x0b2\t.X509SVIDR\x05svids\x12'
    b'\x10\n\x03crl\x18\x02 \x03(\x0cR\x03crl\x12T\n\x11fed'
    b"erated_bundles\x18\x03 \x03(\x0b2'.X"
    b'509SVIDResponse.Federate'
    b'dBundlesEntryR\x10federated'
    b'Bundles\x1aC\n\x15FederatedBund'
    b'lesEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03k'
    b'ey\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value'
    b':\x028\x01"\x94\x01\n\x08X509SVID\x12\x1b\n\tspi'
    b'ffe_id\x18\x01 \x01(\tR\x08spiffeId\x12\x1b'
    b'\n\tx509_svid\x18\x02 \x01(\x0cR\x08x509S'
    b'vid\x12"\n\rx509_svid_key\x18\x03 \x01'
    b'(\x0cR\x0bx509SvidKey\x12\x16\n\x06bundl'
    b'e\x18\x04 \x01(\x0cR\x06bundle\x12\x12\n\x04hint\x18'
    b'\x05 \x01(\tR\x04hint"\x14\n\x12X509Bundl'
    b'esRequest"\xa0\x01\n\x13X509Bundle'
    b'sResponse\x12\x10\n\x03crl\x18\x01 \x03(\x0cR\x03'
    b'crl\x12;\n\x07bundles\x18\x02 \x03(\x0b2!.X'
    b'509BundlesResponse.Bundl'
    b'esEntryR\x07bundles\x1a:\n\x0cBund'
    b'lesEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03k'
    b'ey\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value'
    b':\x028\x01"I\n\x0eJWTSVIDRequest\x12\x1a'
    b'\n\x08audience\x18\x01 \x03(\tR\x08audien'
    b'ce\x12\x1b\n\tspiffe_id\x18\x02 \x01(\tR\x08s'
    b'piffeId"1\n\x0fJWTSVIDRespon'
    b'se\x12\x1e\n\x05svids\x18\x01 \x03(\x0b2\x08.JWTS'
    b'VIDR\x05svids"N\n\x07JWTSVID\x12\x1b\n'
    b'\tspiffe_id\x18\x01 \x01(\tR\x08spiffe'
    b'Id\x12\x12\n\x04svid\x18\x02 \x01(\tR\x04svid\x12\x12'
    b'\n\x04hint\x18\x03 \x01(\tR\x04hint"\x13\n\x11JW'
    b'TBundlesRequest"\x8c\x01\n\x12JWTB'
    b'undlesResponse\x12:\n\x07bundle'
    b's\x18\x01 \x03(\x0b2 .JWTBundlesResp'
    b'onse.BundlesEntryR\x07bundl'
    b'es\x1a:\n\x0cBundlesEntry\x12\x10\n\x03ke'
    b'y\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 '
    b'\x01(\x0cR\x05value:\x028\x01"H\n\x16Valida'
    b'teJWTSVIDRequest\x12\x1a\n\x08audi'
    b'ence\x18\x01 \x01(\tR\x08audience\x12\x12\n\x04'
    b'svid\x18\x02 \x01(\tR\x04svid"g\n\x17Vali'
    b'dateJWTSVIDResponse\x12\x1b\n\ts'
    b'piffe_id\x18\x01 \x01(\tR\x08spiffeId'
    b'\x12/\n\x06claims\x18\x02 \x01(\x0b2\x17.googl'
    b'e.protobuf.StructR\x06claim'
    b's2\xc3\x02\n\x11SpiffeWorkloadAPI\x12'
    b'6\n\rFetchX509SVID\x12\x10.X509S'
    b'VIDRequest\x1a\x11.X509SVIDRes'
    b'ponse0\x01\x12?\n\x10FetchX509Bund'
    b'les\x12\x13.X509BundlesRequest'
    b'\x1a\x14.X509BundlesResponse0\x01'
    b'\x121\n\x0cFetchJWTSVID\x12\x0f.JWTSV'
    b'IDRequest\x1a\x10.JWTSVIDRespo'
    b'nse\x12<\n\x0fFetchJWTBundles\x12\x12'
    b'.JWTBundlesRequest\x1a\x13.JWT'
    b'BundlesResponse0\x01\x12D\n\x0fVal'
    b'idateJWTSVID\x12\x17.ValidateJ'
    b'WTSVIDRequest\x1a\x18.Validate'
    b'JWTSVIDResponseb\x06proto3'
)
X509SVIDRequest = _messages["X509SVIDRequest"]
X509SVIDResponse = _messages["X509SVIDResponse"]
X509SVID = _messages["X509SVID"]
X509BundlesRequest = _messages["X509BundlesRequest"]
X509BundlesResponse = _messages["X509BundlesResponse"]
JWTSVIDRequest = _messages["JWTSVIDRequest"]
JWTSVIDResponse = _messages["JWTSVIDResponse"]
JWTSVID = _messages["JWTSVID"]
JWTBundlesRequest = _messages["JWTBundlesRequest"]
JWTBundlesResponse = _messages["JWTBundlesResponse"]
ValidateJWTSVIDRequest = _messages["ValidateJWTSVIDRequest"]
ValidateJWTSVIDResponse = _messages["ValidateJWTSVIDResponse"]
