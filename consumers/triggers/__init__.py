"""The runtime of triggers: calls for changes, retries, parking, dead letters, windows."""
