"""What a server below another one calls, of SPIRE's server API."""
