"""The version of this package, from its installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cada-edge")
except PackageNotFoundError:  # a checkout on the path, never installed
    __version__ = "0.0.0+unknown"
