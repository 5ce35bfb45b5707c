"""Where the CA's signing keys live: in memory, on disk, and with room for a token that only signs."""
