"""The parts of Envoy's v3 API that serve secrets (SDS) and ask an authorization service, as they are on the wire.

Only what is read or written here is in them; protobuf keeps fields that it does not know. The packages are Envoy's
own, since a secret travels in an ``Any`` whose type URL names its package, and a service's path names it, too.
"""
