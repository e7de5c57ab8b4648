"""The `cage` command."""
