"""Many connections of apps in one mutual TLS connection between two sidecars: HTTP/2 CONNECT, as Istio's HBONE.

A new connection of an app is then one HEADERS frame and no handshake. HTTP/2 itself is ``meshtls.wire.http2``, which
holds no socket. ``wire`` drives it over TLS, ``splice`` joins one stream to one plain socket, and ``client``,
``server`` and ``pool`` decide which streams may be opened.
"""
