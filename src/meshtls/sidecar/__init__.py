"""The sidecar: plaintext on the side of its own app, mutual TLS between known identities on the wire."""
