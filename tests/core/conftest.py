"""Hypothesis settings for all tests of core: machines are shared, so no example has a deadline."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")
