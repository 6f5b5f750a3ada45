"""What is wrong with the command line itself."""

from __future__ import annotations

from cada_edge.errors import ConfigError


class UsageError(ConfigError):
    """Arguments or options that cannot be together, or are missing: the program leaves with 2.

    Any other `ConfigError` that says which value an option got counts as one.
    """
