"""The gRPC API: each method reads its message, runs an operation for its caller, and converts the result.

A service is made for each call. What may be called at all is decided in ``server.access``, before a service is made.
"""
