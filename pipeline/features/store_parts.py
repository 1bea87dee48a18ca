"""The further files of a feature file that is larger than one file may be.

They lie in the folder ``<encoder>.parts`` beside it. Their names hold a digest of all frames and of
how they are cut, so new ones never take the place of those that an older feature file still reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.config.feature_files import StoredAs
from pipeline.errors import EarwitnessError, one_line
from pipeline.features.frames import FilePart, StoredFrames, quantised
from pipeline.features.hdf5 import attribute, block, mapped

MAKE_ANEW = "delete it and run `dvc repro`"
LIBVER = ("v110", "v110")  # fixed, so that the bytes do not depend on the library's default
QUANTISED = 1 << 12  # frames that become int8 at once
ABOUT = "Further files of {}, where it is above feature_files.max_gigabytes.\n"


def folder_of_parts(path: Path) -> Path:
    """Of a feature file."""
    return path.with_name(f"{path.stem}.parts")


def keep_folder(path: Path) -> None:
    """Makes the folder, which is an output of its stage, also where nothing is to be in it."""
    folder = folder_of_parts(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.txt").write_text(ABOUT.format(path.name), encoding="utf-8")


class PartFiles:
    """The further files while they are written: whole and under their names, or gone.

    Args:
        path: of the feature file, which holds the first frames.
        numbers: of the further files; none for most.
    """

    def __init__(self, path: Path, numbers: range) -> None:
        self._folder, self._open = folder_of_parts(path), ExitStack()
        self._written: dict[int, tuple[Path, h5py.File]] = {}
        for leftover in self._folder.glob(".*~"):  # of a process that was killed
            leftover.unlink()
        if numbers:
            self._folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            temporary = self._folder / f".{number:04d}~"
            self._open.callback(temporary.unlink, missing_ok=True)
            file = h5py.File(temporary, "w", libver=LIBVER, locking=False)
            self._open.enter_context(file)
            self._written[number] = temporary, file

    @property
    def files(self) -> list[h5py.File]:
        return [file for _, file in self._written.values()]

    def __enter__(self) -> PartFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def place(self, digest: str) -> None:
        """Closes them, and gives them their names."""
        for number, (temporary, file) in self._written.items():
            file.attrs.update(parts=digest, number=number)
            file.close()
            temporary.chmod(0o644)
            temporary.replace(self._folder / _name(digest, number))

    def remove_others(self, digest: str) -> None:
        """Those of what was there before; called once the feature file is in place."""
        for path in self._folder.glob("*.h5"):
            if digest not in path.name or not self._written:
                path.unlink()


def _name(digest: str, number: int) -> str:
    return f"{digest}-{number:04d}.h5"


class FrameWriter:
    """Writes frames, in order, over several files; and knows the digest of their content.

    Args:
        files: open, the first ``values`` in the first; each takes ``per_file`` frames.
        frames: in all. width: D.
        about: of what the content's digest begins with: the names, and where their frames are.
    """

    def __init__(
        self,
        files: Sequence[h5py.File],
        frames: int,
        width: int,
        per_file: int,
        store: StoredAs,
        about: bytes,
    ) -> None:
        self._values, self._scales = [], []
        self._per_file, self._store = per_file, store
        self._digest, self._of_scales = hashlib.sha256(about), hashlib.sha256()
        self.written = 0
        for number, file in enumerate(files):
            own = min(per_file, frames - number * per_file)
            values = file.create_dataset("values", (own, width), store, track_times=False)
            self._values.append(values)
            if store == "int8":
                scales = file.create_dataset("scales", own, np.float32, track_times=False)
                self._scales.append(scales)

    def add(self, frames: NDArray[np.float16]) -> None:
        """(n, D), the next."""
        if self._store == "float16":
            self._put(frames, None)
            return
        for start in range(0, len(frames), QUANTISED):
            self._put(*quantised(frames[start : start + QUANTISED]))

    def sha256(self) -> str:
        """Of the content, however it is cut."""
        digest = self._digest.copy()
        if self._store == "int8":
            digest.update(self._of_scales.digest())
        return digest.hexdigest()

    def _put(
        self, values: NDArray[np.float16] | NDArray[np.int8], scales: NDArray[np.float32] | None
    ) -> None:
        self._digest.update(values.tobytes())
        if scales is not None:
            self._of_scales.update(scales.tobytes())
        done = 0
        while done < len(values):
            number, at = divmod(self.written, self._per_file)
            room = len(self._values[number]) - at if number < len(self._values) else 0
            if room <= 0:  # there are too many, which the caller sees
                self.written += len(values) - done
                return
            size = min(len(values) - done, room)
            self._values[number][at : at + size] = values[done : done + size]
            if scales is not None:
                self._scales[number][at : at + size] = scales[done : done + size]
            done += size
            self.written += size


def digest_of_parts(content: str, per_file: int) -> str:
    """By which the files of one feature file know each other."""
    return hashlib.sha256(f"{content} {per_file}".encode()).hexdigest()


def read_frames(file: h5py.File, path: Path, frames: int) -> StoredFrames:
    """All frames of a feature file of format 2; what is wrong with it is a ValueError.

    Raises:
        EarwitnessError: a further file is missing, cut, another's, or damaged.
    """
    per_file = int(attribute(file.attrs, "frames_per_file", np.integer))
    digest = attribute(file.attrs, "parts", str)
    if per_file < 1 or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{per_file} frames a file of {digest!r}")
    parts = [read_part(file, path, min(per_file, frames))]
    width, int8 = parts[0].values.shape[1], parts[0].scales is not None
    for number in range(1, -(-frames // per_file)):
        own = min(per_file, frames - number * per_file)
        parts.append(_further(path, digest, number, own, width, int8))
    return StoredFrames(parts, per_file)


def _further(path: Path, digest: str, number: int, frames: int, width: int, int8: bool) -> FilePart:
    place = folder_of_parts(path) / _name(digest, number)
    if not place.is_file():
        raise EarwitnessError(f"{path}: {place.name} of {place.parent} is missing; {MAKE_ANEW}")
    broken = one_line(place, f"delete {path} and run `dvc repro`", "cut short, or another's")
    with broken, h5py.File(place, "r", locking=False) as file:
        own = attribute(file.attrs, "parts", str), attribute(file.attrs, "number", np.integer)
        if own != (digest, number):
            raise ValueError(f"it is part {own[1]} of {own[0][:12]}")
        part = read_part(file, place, frames, width)
        if (part.scales is not None) != int8:
            raise ValueError("values of another type than in the first")
        return part


def read_part(file: h5py.File, path: Path, frames: int, width: int | None = None) -> FilePart:
    """The frames in one file, memory-mapped; anything else is a ValueError."""
    int8 = isinstance(file.get("scales", getlink=True), h5py.HardLink)
    values = block(file, "values", np.int8 if int8 else np.float16, 2, path)
    if len(values) != frames or width not in (None, values.shape[1]):
        wide = "" if width is None else f" of {width} values"
        raise ValueError(f"values of {values.shape} where {frames} frames{wide} should be")
    if not int8:
        return FilePart(mapped(values, path), None)
    scales = block(file, "scales", np.float32, 1, path)
    if scales.shape != (frames,):
        raise ValueError(f"{len(scales)} scales for {frames} frames")
    return FilePart(mapped(values, path), mapped(scales, path))
