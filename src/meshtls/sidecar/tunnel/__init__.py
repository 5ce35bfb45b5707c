"""Many connections of apps in one mutual TLS connection between two sidecars: HTTP/2 CONNECT, as Istio's HBONE.

A new connection of an app is then one HEADERS frame and no handshake. HTTP/2 itself is ``meshtls.wire.http2``, which
holds no socket. ``session`` drives it over TLS, ``stream_end`` makes a stream an end of a relay, and ``client``,
``server`` and ``pool`` decide which streams may be opened.
"""
