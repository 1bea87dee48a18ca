"""What is read from an HDF5 file that anybody may have written: checked, else a ValueError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def attribute(attributes: h5py.AttributeManager, name: str, kind: type) -> Any:
    """One value of a ``kind``; anything else is a ValueError."""
    value = attributes[name] if attributes.get_id(name).shape == () else None
    if not isinstance(value, kind):
        raise ValueError(f"attribute {name} is {type(value).__name__}")
    return value


def block(file: h5py.File, name: str, dtype: Any, dimensions: int, path: Path) -> h5py.Dataset:
    """A data set that is one block of this very file; anything else is a ValueError.

    A link, a virtual data set or one with external storage would be read from any file that its
    writer chose, and one that announces more than the file has would fill the memory with zeros.
    """
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link, which is refused" if link else f"no {name}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__.lower()}")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} lies in other files, which is refused")
    if dataset.ndim != dimensions or not (dataset.dtype == dtype or dataset.dtype.kind == dtype):
        raise ValueError(f"{name} is {dataset.dtype} of {dataset.shape}")
    if dataset.chunks is not None or dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{name} is not one block within the file")
    return dataset


def mapped(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    """A block's values, memory-mapped, read only."""
    if dataset.size == 0:  # nothing is allocated, and nothing can be mapped
        return np.empty(dataset.shape, dataset.dtype)
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.nbytes > path.stat().st_size:
        raise ValueError("values go beyond the end of the file")
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
