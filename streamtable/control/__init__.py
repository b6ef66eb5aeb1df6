"""The control plane of a node: what workers and people ask it about consumers of the log."""
