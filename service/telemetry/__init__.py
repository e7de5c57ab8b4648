"""What the service says of itself: log lines, metrics, traces."""
