# Generated from health.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file

_messages = add_file(
    b'\n\x0chealth.proto\x12\x0egrpc.hea'
    b'lth.v1".\n\x12HealthCheckReq'
    b'uest\x12\x18\n\x07service\x18\x01 \x01(\tR\x07s'
    b'ervice"-\n\x13HealthCheckRes'
    b'ponse\x12\x16\n\x06status\x18\x01 \x01(\x05R\x06s'
    b'tatus2\xae\x01\n\x06Health\x12P\n\x05Chec'
    b'k\x12".grpc.health.v1.Healt'
    b'hCheckRequest\x1a#.grpc.hea'
    b'lth.v1.HealthCheckRespon'
    b'se\x12R\n\x05Watch\x12".grpc.healt'
    b'h.v1.HealthCheckRequest\x1a'
    b'#.grpc.health.v1.HealthC'
    b'heckResponse0\x01b\x06proto3'
)
HealthCheckRequest = _messages["HealthCheckRequest"]
HealthCheckResponse = _messages["HealthCheckResponse"]
