"""HTTP/2 (RFC 9113) as tunnels use it: every stream is a CONNECT. Bytes in, calls and bytes out.

``frames`` cuts a byte stream into frames, ``headers`` reads and writes header blocks, ``settings`` what each side asks
of the other, ``streams`` and ``states`` are the state tables, and ``connection`` joins them into one connection, which
tells its owner (``sink``) what arrives.
"""
