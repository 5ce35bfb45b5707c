"""The agent: attests workloads and serves them SVIDs over the Workload API and SDS."""
