"""SVIDs: what makes a certificate one, and when a peer's is accepted. Pure: no sockets, no clock of its own."""
