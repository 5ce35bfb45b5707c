"""Many connections of apps in one mutual TLS connection between two sidecars: HTTP/2 CONNECT, as Istio's HBONE.

A new connection of an app is then one HEADERS frame and no handshake. The core holds no socket: ``frames`` cuts the
byte stream, ``headers`` reads and writes what CONNECT needs of HPACK, ``connection`` is the state machine. ``wire``
drives it over TLS, ``splice`` joins one stream to one plain socket, and ``client``, ``server`` and ``pool`` decide who
may open what.
"""
