"""Named byte files in one zip or one directory, written all or nothing, read as if hostile.

This layer knows names, kinds, sizes and digests; what the files mean is `cada_edge.bundle`'s
business. Everything is checked before it is returned, and nothing is unpickled or executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cada_edge.errors import BundleError, BundleIntegrityError, DataError, UnsafeFileError
from cada_edge.files import is_special

MANIFEST, SUMS = "bundle.json", "SHA256SUMS"
MAX_FILES = 64
MAX_BYTES = 4 << 30

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SUFFIXES = frozenset({".json", ".safetensors", ".onnx", ""})
_ZIP_MAGIC = b"PK\x03\x04"
_EPOCH = (1980, 1, 1, 0, 0, 0)
# What zipfile raises for bytes that are no zip, or half of one.
_ZIP_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, IndexError)


def sums(content: Mapping[str, bytes]) -> bytes:
    """The text of ``SHA256SUMS`` over `content`, in the format of sha256sum(1), names sorted."""
    lines = (f"{hashlib.sha256(content[n]).hexdigest()}  {n}\n" for n in sorted(content) if n != SUMS)
    return "".join(lines).encode()


def check_file(name: str, content: bytes) -> None:
    """Refuse a name or content that no bundle holds. Raises `UnsafeFileError`."""
    _check_name(name)
    if name.endswith(".safetensors"):
        _check_safetensors(name, content)


def check_totals(what: object, count: int, size: int) -> None:
    """Refuse more than `MAX_FILES` files or `MAX_BYTES` bytes. Raises `UnsafeFileError`."""
    if count > MAX_FILES:
        raise UnsafeFileError(f"{what}: {count} files, a bundle has at most {MAX_FILES}")
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{what}: {size} bytes unpacked, a bundle has at most {MAX_BYTES}")


def read(source: Path) -> dict[str, bytes]:
    """Read and verify every file of a zip or directory; the digests themselves are left out.

    Raises `DataError`, `UnsafeFileError`, `BundleIntegrityError` or `BundleError`.
    """
    try:
        if stat.S_ISREG(source.stat().st_mode) or source.is_dir():
            content = _read_directory(source) if source.is_dir() else _read_zip(source)
        else:  # /dev/zero never ends
            raise DataError(f"{source}: cannot read the bundle: it is a device or a pipe; name a file")
    except OSError as error:
        advice = "make it readable for this user" if isinstance(error, PermissionError) else "check the path"
        raise DataError(f"{source}: cannot read the bundle: {error.strerror or error}; {advice}") from error
    _verify(source, content)
    del content[SUMS]
    return content


def write(target: Path, content: Mapping[str, bytes]) -> None:
    """Write `content` and its digests as a zip, or as a directory where `target` is one.

    Raises `DataError` when that fails; what was there before is then untouched.
    """
    everything = {**content, SUMS: sums(content)}
    try:
        if is_special(target):
            raise DataError(f"{target}: cannot write the bundle: it is a device or a pipe; name a file")
        if target.is_dir():
            _write_directory(target.resolve(), everything)
        else:
            _write_zip(target, everything)
    except OSError as error:
        raise DataError(f"{target}: cannot write the bundle: {error.strerror or error}") from error


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or ".." in name:
        raise UnsafeFileError(f"bundle file name {name!r} is not allowed; expected letters, digits, '.', '_', '-'")
    if PurePosixPath(name).suffix not in _SUFFIXES:
        raise UnsafeFileError(f"bundle file {name!r} is of a kind no bundle holds; expected {sorted(_SUFFIXES)}")


def _check_safetensors(name: str, content: bytes) -> None:
    """8 bytes of length, then a JSON header: anything else is not safetensors."""
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else len(content) + 1
    if 8 + length <= len(content) and content[8:9] == b"{":
        return
    kind = "a pickle" if content[:1] == b"\x80" or content[:4] == _ZIP_MAGIC else "something else"
    raise UnsafeFileError(f"{name} looks like {kind}, expected safetensors; weights in other formats are never loaded")


def _verify(source: Path, content: Mapping[str, bytes]) -> None:
    """Every file listed, every listed file there, every digest right."""
    for name in (SUMS, MANIFEST):
        if name not in content:
            raise BundleError(f"{source} is not a cada-edge bundle: it has no {name}")
    if content[SUMS] == sums(content):
        return
    expected = _parse_sums(source, content[SUMS])
    differ = sorted(expected.keys() ^ (content.keys() - {SUMS}))
    if differ:
        raise BundleIntegrityError(f"{source}: files and {SUMS} disagree about {differ}; copy the bundle again")
    for name, digest in expected.items():
        found = hashlib.sha256(content[name]).hexdigest()
        if found != digest:
            raise BundleIntegrityError(
                f"{source}: {name} was changed or damaged: sha256 is {found[:12]}..., {SUMS} says {digest[:12]}...; "
                "copy the bundle again or make it anew"
            )
    raise BundleIntegrityError(f"{source}: {SUMS} is damaged; copy the bundle again")


def _parse_sums(source: Path, text: bytes) -> dict[str, str]:
    try:
        pairs = [line.split("  ", 1) for line in text.decode("ascii").splitlines()]
        return {name: digest for digest, name in pairs}
    except ValueError as error:
        raise BundleIntegrityError(f"{source}: {SUMS} is damaged: {error}; copy the bundle again") from error


def _read_directory(source: Path) -> dict[str, bytes]:
    if not (source / MANIFEST).exists():
        raise BundleError(
            f"{source} is not a cada-edge bundle: it has no {MANIFEST}; name the .cada file itself, such as line.cada"
        )
    entries = sorted(source.iterdir())
    for entry in entries:
        _check_name(entry.name)
        if not stat.S_ISREG(entry.lstat().st_mode):
            raise UnsafeFileError(f"{entry} is not a regular file; a bundle holds no links and no folders")
    check_totals(source, len(entries), sum(entry.lstat().st_size for entry in entries))
    return {entry.name: entry.read_bytes() for entry in entries}


def _read_zip(source: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            _check_entries(source, infos)
            content = {info.filename: archive.read(info) for info in infos}
    except _ZIP_DAMAGE as error:
        raise _no_whole_zip(source, error) from error
    return content


def _no_whole_zip(source: Path, error: Exception) -> BundleError:
    """Damage is mended by copying; another file by naming the right one."""
    with source.open("rb") as stream:
        head = stream.read(len(_ZIP_MAGIC))
    if head == _ZIP_MAGIC:
        why = "it was cut off or damaged"
        return BundleIntegrityError(f"{source} is not a whole bundle: {why} ({error}); copy it again or make it anew")
    found = f"begins with {head!r}, a bundle with {_ZIP_MAGIC!r}" if head else "is empty"
    return BundleIntegrityError(
        f"{source} is not a whole bundle: it {found}; name what `cada-edge train` wrote, or copy it again"
    )


def _check_entries(source: Path, infos: list[zipfile.ZipInfo]) -> None:
    for info in infos:
        _check_name(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG}:  # 0: the zip was made without Unix modes
            raise UnsafeFileError(
                f"{source}: {info.filename} is not a regular file; a bundle holds no links and no folders"
            )
        if info.compress_type != zipfile.ZIP_STORED:
            raise UnsafeFileError(f"{source}: {info.filename} is compressed; a bundle stores its files as they are")
    if len({info.filename for info in infos}) != len(infos):
        raise UnsafeFileError(f"{source}: a file name stands twice in the zip")
    size, on_disk = sum(info.file_size for info in infos), source.stat().st_size
    check_totals(source, len(infos), size)
    if size > on_disk:
        raise UnsafeFileError(f"{source}: claims {size} bytes of content in a file of {on_disk} bytes")


def _write_zip(target: Path, content: Mapping[str, bytes]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for entry in sorted(content):
                    info = zipfile.ZipInfo(entry, _EPOCH)  # a fixed time: same content, same bytes
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    archive.writestr(info, content[entry])
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_directory(target: Path, content: Mapping[str, bytes]) -> None:
    """Fill a directory beside `target`, then swap the two."""
    strangers = sorted(p.name for p in target.iterdir() if p.is_dir() or not (target / MANIFEST).exists())
    if strangers:  # the swap below removes what is there: never do that to somebody's folder
        raise DataError(f"{target} holds {strangers[0]!r} and is not a bundle; name a new file or an empty directory")
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        for name, data in content.items():
            (fresh / name).write_bytes(data)
        fresh.chmod(0o755)
        _swap(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _swap(fresh: Path, target: Path) -> None:
    old = fresh.with_suffix(".old")
    target.replace(old)
    try:
        fresh.replace(target)
    except BaseException:
        old.replace(target)
        raise
    with contextlib.suppress(OSError):  # the new bundle is in place: a remnant beside it does no harm
        shutil.rmtree(old)
