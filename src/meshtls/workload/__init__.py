"""The client side of the SPIFFE Workload API: a client, and sources that rotate by themselves."""
