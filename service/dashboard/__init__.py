"""What the operator's dashboard draws."""
