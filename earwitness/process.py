"""What every process of ours needs before it loads torch and numba; imports neither.

Importing ``earwitness``, ``stages`` or ``benchmarks`` does it, so every process that the project
starts has it. What is set already stays.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


def set_up() -> None:
    """Waiting threads sleep, and caches have a place. Once for a process, and for its children."""
    # threads that spin while they wait slow every other job on the machine
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    missing = [name for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR") if name not in os.environ]
    if missing and not (_home_takes_caches() or _librosa_takes_caches()):
        with suppress(OSError):  # no temporary folder either: what needs a cache says so
            # its own, as numba runs what it finds there
            folder = tempfile.mkdtemp(prefix="earwitness-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ.update(dict.fromkeys(missing, folder))


def _home_takes_caches() -> bool:
    """Whether the user's own cache folder can be written or made."""
    with suppress(RuntimeError):  # no home
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return folder.is_dir() and _takes_files(folder)
    return False


def _librosa_takes_caches() -> bool:
    """Whether numba can keep its cache beside librosa's code."""
    found = importlib.util.find_spec("librosa")
    if found is None or found.origin is None:
        return True  # nothing to keep
    return _takes_files(Path(found.origin).parent / "core")


def _takes_files(folder: Path) -> bool:
    """Tried, as the permissions of root and of /proc do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
