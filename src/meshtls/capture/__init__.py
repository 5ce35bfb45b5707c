"""What was on the wire, read afterwards or while it happens: files, packets, TCP, TLS and HTTP."""
