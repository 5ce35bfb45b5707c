"""What a capture says of each connection in it: who, how its handshake went, what it cost, and how it ended."""
