"""Everything that can go wrong, as one tree.

::

    CadaEdgeError
    |- ConfigError              a setting is wrong; names the field
    |- MissingDependencyError   an optional package is absent; names the extra that brings it
    |- DataError                an image or a folder cannot be used; names the path
    |- TrainingError            a fit diverged or was resumed from something else
    |- BundleError              a bundle cannot be trusted
    |  |- BundleIntegrityError  a byte differs from what the bundle says of itself
    |  |- BundleSchemaError     written by a newer (or unknown) version
    |  `- UnsafeFileError       path traversal, symlink, pickle, decompression bomb
    |- ExportError              a graph cannot be exported
    |  |- UnsupportedOpError    an operator outside the portable subset
    |  `- ParityError           the exported graph decides differently from the model
    |- EngineError              a compiled engine or session cannot run here
    |  |- NoDeviceError         no GPU, or no driver for it
    |  |- EngineMismatchError   built for another device or version
    |  `- PluginMissingError    the normalisation plugin is not loaded
    `- LineError                the running line
       |- SourceError           a camera, video or folder
       |- LinkError             a PLC or its connection
       |- SinkError             records: a file, a log, a broker
       `- DeadlineMissedError   a verdict came too late to be published

Messages say what happened, the two values that disagree, and what to do. Catch
`CadaEdgeError` for anything of ours, or a branch of the tree for one stage. The library
never prints, exits or returns ``None`` for a failure.
"""

from __future__ import annotations


class CadaEdgeError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(CadaEdgeError):
    """A setting is missing, unknown, of the wrong type or out of range."""


class MissingDependencyError(CadaEdgeError):
    """An optional package is not installed; the message holds the command that installs it."""


class DataError(CadaEdgeError):
    """An image, mask or folder cannot be used; the message names its path."""


class TrainingError(CadaEdgeError):
    """A fit diverged, or a checkpoint does not belong to this run."""


class BundleError(CadaEdgeError):
    """A bundle cannot be read or trusted."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, truncated, changed or not listed."""


class BundleSchemaError(BundleError):
    """The bundle was written under a schema this version does not know."""


class UnsafeFileError(BundleError):
    """A file from outside tried something a bundle never needs to do."""


class ExportError(CadaEdgeError):
    """The model cannot be exported."""


class UnsupportedOpError(ExportError):
    """The graph needs an operator that the target does not have."""


class ParityError(ExportError):
    """The exported graph and the model disagree by more than the stated tolerance."""


class EngineError(CadaEdgeError):
    """A graph or compiled engine cannot run on this device."""


class NoDeviceError(EngineError):
    """There is no GPU here, or no driver for it."""


class EngineMismatchError(EngineError):
    """An engine was built for another device, library version or graph."""


class PluginMissingError(EngineError):
    """An engine needs a plugin library that is not loaded."""


class LineError(CadaEdgeError):
    """Something on the running line failed."""


class SourceError(LineError):
    """A camera, video or folder cannot deliver frames."""


class LinkError(LineError):
    """A PLC cannot be reached, or its memory not be read or written."""


class SinkError(LineError):
    """A file, log or broker cannot take verdicts."""


class DeadlineMissedError(LineError):
    """A verdict was not ready in time; it is a reject."""
