"""Clotho v2.1 and its sets without captions, from Zenodo: downloaded, checked, unpacked.

Files and the folders of archives are moved into place in one step, so that what exists is complete
and is not downloaded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from pipeline.answers import size_of
from pipeline.corpora.archives import check_unpacker, unpack
from pipeline.download import Checksum, download
from pipeline.lock import exclusive

ZENODO = "https://zenodo.org/records/4783391/files"


class Remote(NamedTuple):
    """A file to download, with the MD5 that Zenodo gives for it."""

    name: str
    md5: str


class SplitFiles(NamedTuple):
    """What one split of Clotho consists of, or one of its sets without captions."""

    audio: Remote  # an archive with one folder, named as the split
    tables: tuple[Remote, ...]


CLOTHO: dict[str, SplitFiles] = {
    "development": SplitFiles(
        Remote("clotho_audio_development.7z", "c8b05bc7acdb13895bb3c6a29608667e"),
        (
            Remote("clotho_captions_development.csv", "d4090b39ce9f2491908eebf4d5b09bae"),
            Remote("clotho_metadata_development.csv", "170d20935ecfdf161ce1bb154118cda5"),
        ),
    ),
    "validation": SplitFiles(
        Remote("clotho_audio_validation.7z", "7dba730be08bada48bd15dc4e668df59"),
        (
            Remote("clotho_captions_validation.csv", "5879e023032b22a2c930aaa0528bead4"),
            Remote("clotho_metadata_validation.csv", "2e010427c56b1ce6008b0f03f41048ce"),
        ),
    ),
    "evaluation": SplitFiles(
        Remote("clotho_audio_evaluation.7z", "4569624ccadf96223f19cb59fe4f849f"),
        (
            Remote("clotho_captions_evaluation.csv", "1b16b9e57cf7bdb7f13a13802aeb57e2"),
            Remote("clotho_metadata_evaluation.csv", "13946f054d4e1bf48079813aac61bf77"),
        ),
    ),
}


class FetchedSet(NamedTuple):
    """A set without captions: where its files are, and what they are."""

    url: str
    files: dict[str, SplitFiles]  # the folder that its archive makes → its files


# DCASE's sets by what ``datasets.<name>.fetch`` calls them. Addresses and MD5s are those of
# aac-datasets 0.7.0; nothing of them was asked for here
CLOTHO_BLIND: dict[str, FetchedSet] = {
    # of the captioning tasks, 1,043 clips
    "clotho_test": FetchedSet(
        "https://zenodo.org/records/3865658/files",
        {
            "test": SplitFiles(
                Remote("clotho_audio_test.7z", "9b3fe72560a621641ff4351ba1154349"),
                (Remote("clotho_metadata_test.csv", "52f8ad01c229a310a0ff8043df480e21"),),
            )
        },
    ),
    # of the captioning task of 2022, 8,360 clips, which no table lists
    "clotho_analysis": FetchedSet(
        "https://zenodo.org/records/6610709/files",
        {
            "clotho_analysis": SplitFiles(
                Remote("clotho_analysis_2022.zip", "7e8fa4762cc3a7c5546606680b958d08"), ()
            )
        },
    ),
    # of the retrieval task of 2022, 1,000 clips and as many queries
    "clotho_retrieval": FetchedSet(
        "https://zenodo.org/records/6590983/files",
        {
            "test": SplitFiles(
                Remote("retrieval_audio.7z", "24102395fd757c462421a483fba5c407"),
                (Remote("retrieval_captions.csv", "f9e810118be00c64ea8cd7557816d4fe"),),
            )
        },
    ),
}


def missing_archives(root: Path, splits: Mapping[str, SplitFiles] = CLOTHO) -> list[Remote]:
    """The archives whose folder ``root`` lacks; tables are small beside them."""
    return [files.audio for split, files in splits.items() if not (root / split).is_dir()]


def total_size(base_url: str, files: Iterable[Remote]) -> int | None:
    """Bytes of several files of a record together; None where its server does not say."""
    sizes = []
    for file in files:
        if (size := size_of(address(base_url, file))) is None:
            return None
        sizes.append(size)
    return sum(sizes)


def address(base_url: str, file: Remote) -> str:
    """Of a file of a record of Zenodo."""
    return f"{base_url}/{file.name}?download=1"


def is_fetched(root: Path, splits: Mapping[str, SplitFiles] = CLOTHO) -> bool:
    """Whether ``root`` has all that :func:`fetch_clotho` would download."""
    return all(
        (root / split).is_dir() and all((root / table.name).exists() for table in files.tables)
        for split, files in splits.items()
    )


def fetching(root: Path) -> AbstractContextManager[None]:
    """Held by the one process that fetches into ``root``; others wait, and find what it brought."""
    return exclusive(root / ".fetch.lock", wait=True, what=f"fetches into {root}")


def fetch_clotho(
    root: Path,
    say: Callable[[str], None],
    base_url: str = ZENODO,
    splits: Mapping[str, SplitFiles] = CLOTHO,
    progress: bool = True,
    pause: float = 2.0,
) -> None:
    """Downloads what ``root`` lacks of Clotho; after an interruption, the next call continues.

    Args:
        say: told what will be downloaded, and how large it is, before anything is.
        base_url: the address of the files, without their names.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.

    Raises:
        EarwitnessError: no connection, a checksum that is wrong, or an archive that cannot be
            unpacked.
    """
    with fetching(root):
        if missing := missing_archives(root, splits):
            size = total_size(base_url, missing)
            much = "files whose sizes are not known" if size is None else f"{size / 1e9:.1f} GB"
            say(f"downloads {much} into {root}: {', '.join(file.name for file in missing)}")
        for split, files in splits.items():
            if not (root / split).is_dir():
                archive = root / files.audio.name
                check_unpacker(archive)  # before gigabytes are downloaded
                fetch_file(files.audio, root, base_url, progress, pause)
                unpack(archive, split, root)
                archive.unlink()
            for table in files.tables:
                fetch_file(table, root, base_url, progress, pause)


def fetch_file(file: Remote, root: Path, base_url: str, progress: bool, pause: float) -> None:
    """Downloads one file of Zenodo into ``root``, where it lacks it."""
    if not (root / file.name).exists():
        url, checksum = address(base_url, file), Checksum("md5", file.md5)
        download(url, root / file.name, checksum, progress=progress, pause=pause)
