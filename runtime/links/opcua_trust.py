"""Which OPC UA clients may connect, by their certificates."""

from __future__ import annotations

from pathlib import Path

from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions

from cada_edge.errors import ConfigError

_CHECKED = (
    CertificateValidatorOptions.TIME_RANGE
    | CertificateValidatorOptions.TRUSTED
    | CertificateValidatorOptions.PEER_CLIENT
)


async def trusting(folder: Path) -> CertificateValidator:
    """Takes the certificates in `folder`, and those signed by one of them, while they are valid.

    Raises `ConfigError` for a folder without a certificate, or with a file that is none.
    """
    store = TrustStore([folder], [])
    if not _holds_any(folder):
        raise ConfigError(
            f"opcua-server: no .pem or .der in trusted folder {folder}; put the clients' certificates there"
        )
    try:
        await store.load_trust()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"opcua-server: a file in trusted folder {folder} is no certificate: {error}") from error
    return CertificateValidator(_CHECKED, store)


def _holds_any(folder: Path) -> bool:
    return any(one.suffix.lower() in {".pem", ".der"} for one in folder.glob("*"))
