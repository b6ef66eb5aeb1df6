"""What a node tells of itself: metrics in Prometheus' format, health and readiness."""
