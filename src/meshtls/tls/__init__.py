"""Mutual TLS on the standard library's ``ssl``, made to keep SPIFFE's rules.

Three facts shape everything here.

*The trust store is flat.* OpenSSL accepts any root for any identity, so a handshake that it passes is only a candidate:
``verify_peer`` and the authorizer decide, on every connection, before a byte of application data is passed on.

*TLS 1.3 tells the client "done" early.* The client's handshake ends when it has sent its certificate, before the server
has checked it. A finished handshake is not acceptance: only application data from the server shows that it accepted us.

*A refusal should reach the peer.* Python has no call that sends an alert of one's choice. ``verifying`` checks the peer
when its Certificate message arrives, and makes OpenSSL itself refuse, with a fatal alert, within the handshake. A
client that refuses in this way has not yet sent its own certificate. ``verifying`` explains how, and when a peer is
accepted.
"""
