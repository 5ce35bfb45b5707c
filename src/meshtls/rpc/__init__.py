"""gRPC listeners whose cost for a stranger is bounded: admission, frame guard, fair reading, phases with deadlines."""
