"""Errors that a user of Caesura can cause, each saying what to do."""


class CaesuraError(Exception):
    """Base of Caesura's own errors."""


class ConfigurationError(CaesuraError, ValueError):
    """Options that cannot work together or on this machine."""


class UnsupportedVersion(CaesuraError, RuntimeError):
    """The installed vLLM is not one that passed the contract tests."""
