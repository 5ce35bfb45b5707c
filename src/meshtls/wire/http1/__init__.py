"""HTTP/1.1 between a client and an app (RFC 9110, RFC 9112). Bytes in, values and bytes out. Pure.

``start`` tells HTTP/1 from HTTP/2 by the first bytes, ``fields`` reads the lines of a head, ``request`` and
``response`` read whole heads, ``chunked`` reads chunked bodies, ``writing`` makes the bytes that we send, ``exchange``
is a request with its answer, and ``filter`` joins them into one connection.

The parser is our own and not llhttp's. The work is the same, about 3 microseconds for a small head, but llhttp can't
stop between two requests of one receive to wait for a ruling, accepts what we refuse, and does not say where a head
ends.
"""
