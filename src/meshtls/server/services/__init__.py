"""The methods of the server's API: each reads a message, does one thing, answers."""
