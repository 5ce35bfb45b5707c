"""Mutual TLS on the standard library's ``ssl``, made to keep SPIFFE's rules.

Three facts shape everything here.

*The trust store is flat.* OpenSSL accepts any root for any identity, so a handshake that it passes is only a candidate:
``verify_peer`` and the authorizer decide, on every connection, before a byte of application data is passed on.

*TLS 1.3 tells the client "done" early.* The client's handshake ends when it has sent its certificate, before the server
has looked at it. "Handshaken" is not "accepted": only application data coming back says that the server agreed.

*A refusal should reach the refused.* Python has no call that sends an alert of one's choice, but OpenSSL reports each
handshake message to a callback before it acts on it. When the peer's Certificate message arrives we judge it there, and
where the verdict is no, exchange the connection's trust store for an empty one: OpenSSL then refuses by itself, within
the handshake, with a fatal alert, and a client so refusing has not yet shown who it is. That early verdict only ever
refuses. What accepts is the check after the handshake, when the peer has proven that it holds the key.
"""
