"""gRPC listeners that bound what a caller may cost: admission, frame guard, fair reading, phases with deadlines."""
