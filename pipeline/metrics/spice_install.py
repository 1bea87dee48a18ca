"""Installs SPICE: ``python -m pipeline.metrics.spice_install data/tools/spice``.

pycocoevalcap contains SPICE without CoreNLP 3.6.0 (7 MB) and its models (378 MB). They come from
Maven where it is installed, else from the archive that pycocoevalcap itself downloads, and are kept
in the user's cache, from which a second clone on the machine takes them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from pipeline.download import download
from pipeline.errors import EarwitnessError, reason
from pipeline.files import check_file, replacing, sha256, user_cache
from pipeline.metrics.java import jars

Say = Callable[[str], None]


class _Jar(NamedTuple):
    name: str
    artifact: str  # Maven's
    megabytes: int
    sha256: str  # of Maven's file
    content: str  # digest of its entries: the archive's jar may be packed at another time


_COORDINATE = "edu.stanford.nlp:stanford-corenlp:3.6.0"
CORENLP = (
    _Jar(
        "stanford-corenlp-3.6.0.jar",
        _COORDINATE,
        7,
        "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742",
        "1323e96bcd3b11424ce3de627448fa0e087da8e9ce9ec0eac699c9d8309c4856",
    ),
    _Jar(
        "stanford-corenlp-3.6.0-models.jar",
        f"{_COORDINATE}:jar:models",
        378,
        "d285157bd7887ee3018094b5dbae092e49088b023361ccdb550ee1daf9b2c9bd",
        "f90e6a969a3f1e9cd794e1ef71a0e182dee511b58adc341cef4e6f979b64a176",
    ),
)
_ARCHIVE = "stanford-corenlp-full-2015-12-09"  # as pycocoevalcap's get_stanford_models has it
_URL = f"https://nlp.stanford.edu/software/{_ARCHIVE}.zip"
_MOST = 1 << 30  # bytes of the archive, which has 0.4 GB
_SECONDS = 1200  # for one download by Maven


def ready(folder: Path) -> bool:
    """Whether SPICE can run from ``folder``: all jars exist, and CoreNLP's are complete."""
    shipped = all((folder / name).is_file() for name in _shipped())
    lib = folder / "lib"
    return shipped and all(_is_zip(lib / jar.name) for jar in CORENLP)


def to_download(folder: Path, cache: Path) -> int:
    """Megabytes that :func:`install` would download; those in the cache are not."""
    places = (folder / "lib", cache)
    return sum(jar.megabytes for jar in CORENLP if not any(_is_zip(at / jar.name) for at in places))


def install(
    folder: Path, cache: Path, say: Say = print, maven: str | None = None, url: str = _URL
) -> str | None:
    """Puts SPICE into ``folder``; files that are already right are kept.

    Args:
        cache: where the two downloads are kept, also for other clones.
        maven: its command, where it is installed.
        url: of the archive that is used without Maven.

    Returns:
        None when SPICE can run, else the reason why not.
    """
    try:
        for jar in CORENLP:
            if not _right(folder / "lib" / jar.name, jar):
                _place(_cached(jar, cache, say, maven, url), folder / "lib" / jar.name)
        for name in _shipped():
            if not (folder / name).is_file():
                _place(jars() / "spice" / name, folder / name, link=False)
    except (EarwitnessError, OSError) as error:
        return " ".join(str(error).split())
    return None


def _shipped() -> list[str]:
    """The files of SPICE in pycocoevalcap, relative to its folder; the jar expects its lib/."""
    spice = jars() / "spice"
    names = (path.name for path in (spice / "lib").glob("*.jar"))
    corenlp = {jar.name for jar in CORENLP}
    return ["spice-1.0.jar", *(f"lib/{name}" for name in sorted(names) if name not in corenlp)]


def _right(path: Path, jar: _Jar) -> bool:
    """Whether ``path`` is that jar, in all its bytes or at least in all its entries."""
    if not _is_zip(path):
        return False
    return sha256(path) == jar.sha256 or _content(path) == jar.content


def _is_zip(path: Path) -> bool:
    """False where it is missing or truncated."""
    return path.is_file() and zipfile.is_zipfile(path)


def _content(path: Path) -> str:
    """SHA-256 of the names and contents of all entries but META-INF, which tells of the packing."""
    total = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith("/") or name.startswith("META-INF/"):
                    continue
                with archive.open(name) as entry:
                    digest = hashlib.file_digest(entry, "sha256").hexdigest()  # type: ignore[arg-type]
                total.update(f"{name} {digest}\n".encode())
    except Exception:  # a damaged archive may raise anything
        return ""
    return total.hexdigest()


def _place(source: Path, target: Path, link: bool = True) -> None:
    """Makes ``target`` in one step: a hard link where possible, else a copy."""
    with replacing(target) as temporary:
        if link:
            temporary.unlink()
            with suppress(OSError):  # another file system
                os.link(source, temporary)
                return
        shutil.copyfile(source, temporary)


def _cached(jar: _Jar, cache: Path, say: Say, maven: str | None, url: str) -> Path:
    """The jar in the cache, downloaded if it is missing or wrong."""
    path = cache / jar.name
    if _right(path, jar):
        return path
    reasons = []
    for fetch in (_from_maven, _from_archive):
        try:
            fetch(jar, cache, say, maven if fetch is _from_maven else url)
            if _right(path, jar):
                return path
            reasons.append(f"{fetch.__name__[6:]}: another {jar.name} than expected")
            path.unlink(missing_ok=True)
        except (EarwitnessError, OSError) as error:
            reasons.append(f"{fetch.__name__[6:]}: {error}")
    raise EarwitnessError(f"{jar.name} is not available ({'; '.join(reasons)})")


def _from_maven(jar: _Jar, cache: Path, say: Say, maven: str | None) -> None:
    if maven is None:
        raise EarwitnessError("not installed")
    say(f"SPICE: getting {jar.name} ({jar.megabytes} MB) by Maven")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="maven-") as folder:
        command = [maven, "-B", "-q", "dependency:copy", f"-Dartifact={jar.artifact}"]
        command += [f"-DoutputDirectory={folder}"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise EarwitnessError(f"no answer in {_SECONDS} s") from None
        found = Path(folder) / jar.name
        if done.returncode != 0 or not found.is_file():
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise EarwitnessError(lines[0][:200] if lines else f"ended with code {done.returncode}")
        found.replace(cache / jar.name)


def _from_archive(jar: _Jar, cache: Path, say: Say, url: str | None) -> None:
    """The jar from the archive; an interrupted download is resumed."""
    whole = cache / f"{_ARCHIVE}.zip"
    if url is None:
        raise EarwitnessError("no address")
    say(f"SPICE: getting {_ARCHIVE}.zip for {jar.name}")
    cache.mkdir(parents=True, exist_ok=True)
    if not whole.exists():
        # without a checksum: Stanford publishes none, and each jar in it is checked by its content
        download(url, whole, tries=1, most=_MOST)
    check_file(whole, "delete it")
    try:
        with (
            zipfile.ZipFile(whole) as archive,
            archive.open(f"{_ARCHIVE}/{jar.name}") as entry,  # reading tests its checksum
            replacing(cache / jar.name) as temporary,
            temporary.open("wb") as target,
        ):
            if archive.getinfo(entry.name).file_size > 2 * jar.megabytes << 20:
                raise zipfile.BadZipFile(f"{entry.name} is far larger than {jar.megabytes} MB")
            shutil.copyfileobj(entry, target, 1 << 20)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # of the disk, not of the archive
            raise
        raise _broken(whole, url, error) from None
    except Exception as error:  # a damaged archive may raise anything
        raise _broken(whole, url, error) from None
    if all((cache / each.name).is_file() for each in CORENLP):
        whole.unlink()


def _broken(whole: Path, url: str, error: Exception) -> EarwitnessError:
    whole.unlink()
    return EarwitnessError(f"{url} is broken ({reason(error)}); it was deleted")


def main(
    folder: Annotated[Path, typer.Argument(help="for SPICE")],
    cache: Annotated[Path | None, typer.Option(help="for downloads")] = None,
) -> None:
    """Install SPICE. Prints what is not available, and never fails."""
    before = ready(folder)
    reason = install(folder, cache or user_cache(), maven=shutil.which("mvn"))
    if reason is not None:
        print(f"SPICE: left out, and SPIDEr with it: {reason}")
    else:
        print(f"SPICE: {'ready' if before else 'installed'} in {folder}")


if __name__ == "__main__":
    typer.run(main)
