"""JWTs of HTTP requests: where they are, what they must be, and what they say of the caller (RequestAuthentication).

``authenticate`` is the way in. Key sets come from outside (``meshtls.request_auth``). Pure.
"""
