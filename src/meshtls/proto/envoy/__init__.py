"""The part of Envoy's v3 API that serves secrets (SDS), as it is on the wire.

Only what an SDS server reads or writes is here; protobuf keeps fields that it does not know. The packages are Envoy's
own, since a secret travels in an ``Any`` whose type URL names its package.
"""
