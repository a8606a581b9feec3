"""The error hierarchy: each class has a stable code, and its message says what was wrong and what to do."""

from __future__ import annotations

from typing import ClassVar


class SellflowError(Exception):
    """Any error that Sellflow raises on purpose.

    `code` is stable: logs, dead letters and problem+json carry it, so it may be searched for and relied on.
    """

    code: ClassVar[str] = "sellflow.error"


class ConfigurationError(SellflowError):
    """A setting is missing, malformed or unsafe for this environment."""

    code = "configuration.invalid"


class PortTakenError(ConfigurationError):
    """Another program listens on a port that Sellflow was told to use."""

    code = "configuration.port_taken"


class DatabaseUnavailableError(SellflowError):
    """Postgres cannot be reached, or did not answer in time."""

    code = "database.unavailable"


class MigrationError(SellflowError):
    """The database's schema is not the one that this version needs."""

    code = "database.schema"


class PermanentError(SellflowError):
    """Trying again cannot help: a consumer sets the message aside at its first failure."""

    code = "handler.permanent"


class TryLaterError(SellflowError):
    """The other side asked to be left alone for some `seconds`."""

    code = "handler.try_later"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class PostponedError(SellflowError):
    """Nothing was tried, and nothing failed: the message comes back after some `seconds`."""

    code = "handler.postponed"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class SkippedError(SellflowError):
    """What a message asks for is pointless by now: it is done, with this as its outcome."""

    code = "handler.skipped"


class InvalidPayloadError(PermanentError):
    """An event's payload is not what its topic promises."""

    code = "payload.invalid"


class UndeclaredTopicError(SellflowError):
    """Code emitted a topic that no domain declares."""

    code = "queue.undeclared_topic"


class NotFoundError(SellflowError):
    """What was asked for does not exist, or is not visible to the caller."""

    code = "not_found"
