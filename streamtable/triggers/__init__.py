"""Decorated functions that run on changes: the app, its worker, its delivery."""
