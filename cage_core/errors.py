"""Errors that cage_core raises on purpose."""


class CageError(Exception):
    """Root of every error this package raises on purpose."""


class InvalidGame(CageError, ValueError):
    """A game's arguments cannot be right: which one, and why."""


class InvalidModel(CageError):
    """A model or principal directory cannot be served: what is missing, and what to do."""


class InvalidDecodeRequest(CageError, ValueError):
    """A decode request cannot be served as given: which argument, and why."""


class EngineFull(CageError):
    """The engine's queue is full; try again later."""


class EngineStopped(CageError):
    """The engine is shutting down and takes no more work."""


class DeadlineExceeded(CageError):
    """An answer was not complete by its deadline."""


class DecodeFailed(CageError):
    """Decoding an answer failed for a reason that is not the request's; the log has the cause."""
