# Generated from envoy/secret.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from meshtls.proto.pool import add_file
import meshtls.proto.envoy.discovery_pb as envoy_discovery_pb

_messages = add_file(
    b'\n\x12envoy/secret.proto\x12\x17en'
    b'voy.service.secret.v3\x1a\x15e'
    b'nvoy/discovery.proto2\xf2\x02\n'
    b'\x16SecretDiscoveryService\x12'
    b'y\n\x0cDeltaSecrets\x121.envoy.'
    b'service.discovery.v3.Del'
    b'taDiscoveryRequest\x1a2.env'
    b'oy.service.discovery.v3.'
    b'DeltaDiscoveryResponse(\x01'
    b'0\x01\x12p\n\rStreamSecrets\x12,.en'
    b'voy.service.discovery.v3'
    b'.DiscoveryRequest\x1a-.envo'
    b'y.service.discovery.v3.D'
    b'iscoveryResponse(\x010\x01\x12k\n\x0c'
    b'FetchSecrets\x12,.envoy.ser'
    b'vice.discovery.v3.Discov'
    b'eryRequest\x1a-.envoy.servi'
    b'ce.discovery.v3.Discover'
    b'yResponseb\x06proto3'
)
