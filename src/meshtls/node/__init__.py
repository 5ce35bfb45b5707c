"""The JSON-over-stdio adapter: a message per line in, a reply per line out, and each handshake a real connection."""
