"""End users: what is kept of them, and how it is exported, reset or erased."""
