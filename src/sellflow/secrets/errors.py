"""What can be wrong with secrets and their keys. No message repeats a secret."""

from __future__ import annotations

from sellflow.errors import ConfigurationError, SellflowError


class SecretsError(SellflowError):
    """A secret, or the key that it needs, cannot be had."""

    code = "secrets.error"


class CannotOpenError(SecretsError):
    """A sealed value was changed, or was sealed for another shop or purpose than it is opened for."""

    code = "secrets.cannot_open"


class DataKeyMissingError(SecretsError):
    """The data key of a sealed value is not there: it was erased with its shop, or is another shop's."""

    code = "secrets.data_key_missing"


class MasterKeyMissingError(SecretsError):
    """Data keys are wrapped by a master key that this process has no access to."""

    code = "secrets.master_key_missing"


class NoMasterKeyError(SecretsError):
    """The database knows no master key yet."""

    code = "secrets.not_set_up"


class KeyServiceUnavailableError(SecretsError):
    """The service that holds the master keys did not answer, or asked to be left alone."""

    code = "secrets.unavailable"


class KeyFileError(SecretsError, ConfigurationError):
    """The file of master keys may be read by others, is malformed, or cannot be read or written."""

    code = "secrets.key_file"
