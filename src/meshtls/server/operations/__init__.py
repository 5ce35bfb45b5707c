"""The server's operations, independent of the API that carries the call.

Each operation checks its caller's permission, runs its transaction, and returns when the change is committed and the
hub has applied it and woken the agents concerned. gRPC services (``server.services``) convert between messages and
values, and call operations; any other API may do the same.
"""
