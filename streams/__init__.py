"""The change log: commits, owners, the embedded broker, the trigger runtime."""
