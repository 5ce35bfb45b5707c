"""The admin interface of a sidecar, an agent and a server: what a running process shows, and what it may be told."""
