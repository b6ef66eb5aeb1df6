"""What the nodes of a region ask of each other: calls over kept-open WebSockets."""
