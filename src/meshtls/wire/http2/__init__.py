"""HTTP/2 (RFC 9113) as tunnels use it: every stream is a CONNECT. Bytes in, calls and bytes out.

``frames`` cuts a byte stream into frames, ``headers`` reads and writes header blocks, ``settings`` reads and writes
SETTINGS, ``streams`` and ``states`` are the state tables, and ``connection`` joins them into one connection, which
calls its owner (``sink``) with what arrives.
"""
