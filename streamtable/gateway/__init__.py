"""The HTTP endpoint that AWS SDKs talk to."""
