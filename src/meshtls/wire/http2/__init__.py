"""HTTP/2 (RFC 9113), without I/O: bytes in, calls and bytes out.

``frames`` cuts a byte stream into frames, ``settings`` reads and writes SETTINGS, ``streams`` and ``states`` are the
state tables, and ``multiplexer`` joins them into one connection, whatever its streams carry.

Tunnels, where every stream is a CONNECT: ``headers`` reads and writes their header blocks, and ``connection`` calls its
owner (``sink``) with what arrives. HTTP requests between a client and an app: ``filter``, over ``downstream`` and
``upstream``.
"""
