"""What runs each kind of consumer in a worker; see `streamtable.triggers.kinds`."""
