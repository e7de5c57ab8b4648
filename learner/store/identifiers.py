"""New random ids, with a prefix that says what they name."""

import secrets


def new_id(prefix: str) -> str:
    """`prefix` and 22 characters that no one can guess."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"
