"""External authorization: a service decides on what a CUSTOM policy matches (Envoy's ``ext_authz``).

``client`` is the way in. Whatever is not a clear permission denies: a provider that is not configured, does not answer,
or answers something else.
"""
