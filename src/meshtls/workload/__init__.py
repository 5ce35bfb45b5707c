"""The client's side of the SPIFFE Workload API, ours or anyone's: a client, and sources that rotate by themselves."""
