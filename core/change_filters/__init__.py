"""Which changes a trigger wants: predicates over both images, and Lambda's filter patterns."""
