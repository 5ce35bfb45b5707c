"""The server's operations: what a caller may do, independent of the API that carries the call.

Each operation checks its caller's permission, runs its transaction, and returns when the change is committed and the
hub has taken it in, so that the agents it concerns have been woken. gRPC services (``server.services``) convert between
messages and values, and call operations; so may any other API.
"""
