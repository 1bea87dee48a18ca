"""What git says, for those who can do without."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_output(root: Path, *arguments: str) -> bytes | None:
    """A git command's output in ``root``; None where it fails, or there is no git."""
    try:
        done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
