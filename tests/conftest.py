"""What every test shares: property tests are judged by what they find and never by how long a busy machine takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("meshtls", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshtls")
