"""RequestAuthentication at work: the key sets of a workload's rules, fetched and kept, and who makes a request.

``authenticator`` is the way in; ``policy.jwt`` decides.
"""
