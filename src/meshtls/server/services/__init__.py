"""The gRPC API: each method reads its message, runs an operation for its caller, and converts the result.

A service is created for each call. ``server.access`` decides which calls are permitted, before a service is created.
"""
