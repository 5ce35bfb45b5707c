"""HTTP on an inbound listener: each request is judged before a byte of it reaches the app.

The bytes of HTTP are ``wire/http1`` and ``wire/http2``, which hold no socket. ``detect`` finds out which one a client
speaks, ``opening`` authorizes the client as what it begins and dials the app where that is not HTTP, ``relay`` moves
bytes between the client, the filter and the app, ``judge`` rules on each request, and ``session`` joins these for one
connection or one stream of a tunnel.
"""
