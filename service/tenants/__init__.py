"""Tenants: making, steering and deleting them."""
