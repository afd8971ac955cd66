"""Files of named data sets: found, checked, or fetched."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from sys import stderr

from platformdirs import user_cache_dir

from ..models.errors import InputError


@dataclass(frozen=True)
class Source:
    """A file of a data set: where it lies below the data folder (unpacked, or beside it with ``.gz``), the SHA-256 of
    what is in it, and where it comes from."""

    path: str
    sha256: str
    url: str


def data_folder() -> Path:
    """``AEVB_DATA``, or the user's cache folder: where data sets are looked for, and where downloads go."""
    return Path(os.environ.get("AEVB_DATA") or user_cache_dir("aevb"))


def read_sources(name: str, sources: Sequence[Source], download: Callable[[Path], object]) -> list[bytes]:
    """The contents of all files of a data set, unpacked and checked; they are fetched if one is missing.

    Args:
        name: of the data set.
        sources: its files.
        download: puts them below a folder.

    Raises:
        InputError: a file is damaged or altered; or files are missing and cannot be fetched.
    """
    folder = data_folder()
    missing = [source for source in sources if _find(folder, source) is None]
    if missing:
        there = {folder, *folder.rglob("*")} if folder.exists() else set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with redirect_stdout(stderr):
                download(folder)
        except (OSError, RuntimeError) as error:
            _remove_empty({folder, *folder.rglob("*")} - there)
            files = ", ".join(source.path for source in missing)
            raise InputError(
                f"{name} is not in {folder}, and could not be fetched ({str(error).splitlines()[0]}).\n"
                f"  Put there (plain, or with .gz): {files}.\n"
                f"  They come from {missing[0].url.rpartition('/')[0]}/. AEVB_DATA names another folder."
            ) from error
    return [_read(folder, source) for source in sources]


def _remove_empty(paths: set[Path]) -> None:
    for path in sorted(paths, reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _find(folder: Path, source: Source) -> Path | None:
    plain = folder / source.path
    return next((path for path in (plain, plain.with_name(plain.name + ".gz")) if path.is_file()), None)


def _read(folder: Path, source: Source) -> bytes:
    path = _find(folder, source)
    if path is None:
        raise InputError(f"{folder / source.path} is still missing after {source.url} was fetched.")
    remedy = f"Remove it, and fetch it again from {source.url}."
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is cut short or damaged ({error}). {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise InputError(
            f"{path} is not the file that it should be: its content has SHA-256 {found[:16]}..., not "
            f"{source.sha256[:16]}.... {remedy}"
        )
    return content
