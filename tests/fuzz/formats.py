"""Harm that knows the format: HDF5, safetensors, NumPy, torch and WAV."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import torch

from tests.fuzz.harm import BYTES, Change, Harm, file_change, json_changed, number_changed


def hdf5_changed(draw: Random, path: Path, outside: Path) -> None:
    """An attribute or a data set becomes another, a link, or a file's outside."""
    with h5py.File(path, "r+") as file:
        if draw.random() < 0.35 and len(file.attrs):
            _change_attribute(draw, file, draw.choice(sorted(file.attrs)), outside)
        else:
            _change_dataset(draw, file, draw.choice(sorted(file)), outside)


def _change_attribute(draw: Random, file: h5py.File, name: str, outside: Path) -> None:
    nested = "[" * 100_000
    others: tuple[Any, ...] = (
        *(
            None,
            -1,
            0,
            2**62,
            1.5,
            float("nan"),
            float("inf"),
            "",
            "x" * 60_000,
            nested,
            "{}",
            "[]",
        ),
        *(np.zeros(0), np.zeros((3, 3)), np.bytes_(b"\xff\xfe"), True, h5py.Empty("f"), "NaN"),
        *(np.array([1, 2]), "null", '{"a": NaN}', np.array(["a", "b"], "S1"), file.ref, 1j),
        *(json.dumps({"path": str(outside)}), np.zeros(2, [("a", "i4"), ("b", "f8")])),
    )
    value = draw.choice(others)
    del file.attrs[name]
    if value is not None:
        file.attrs[name] = value


def _change_dataset(draw: Random, file: h5py.File, name: str, outside: Path) -> None:
    old = file[name][()] if isinstance(file[name], h5py.Dataset) else np.zeros(3)
    shape, size = old.shape, max(1, old.size)
    del file[name]
    match draw.randrange(17):
        case 0:
            file.create_group(name)
        case 1:
            file[name] = h5py.SoftLink(f"/{name}")
        case 2:
            file["other"] = h5py.SoftLink(f"/{name}")
            file[name] = h5py.SoftLink("/other")
        case 3 | 4:
            far = draw.choice((str(outside / "canary.h5"), "../outside/canary.h5"))
            file[name] = h5py.ExternalLink(far, f"/{name}")
        case 5 | 6:
            far = [(str(outside / "canary.raw"), 0, size * old.dtype.itemsize)]
            file.create_dataset(name, shape, old.dtype, external=far)
        case 7 | 8:
            layout = h5py.VirtualLayout(shape, old.dtype)
            layout[...] = h5py.VirtualSource(str(outside / "canary.h5"), name, shape)
            file.create_virtual_dataset(name, layout)
        case 9:
            kinds: tuple[Any, ...] = ("f4", "i1", "i8", ">f2", ">i8", "f8", "c8", "?", "S3", "u8")
            file.create_dataset(name, shape, draw.choice(kinds))
        case 10:
            shapes = ((), (0,), (size,), (size, 1, 1), (1, size), (0, 0), (3, 0), (0, 6))
            file.create_dataset(name, draw.choice(shapes), old.dtype)
        case 11:
            huge = draw.choice(((10**9,), (10**12,), (10**9, 6), (1, 10**10), (2**40, 2**20)))
            file.create_dataset(name, huge, old.dtype, chunks=(1000,) * len(huge))
        case 12 if old.ndim:
            file.create_dataset(name, data=old, chunks=True, compression="gzip")
        case 13:
            file.create_dataset(name, data=[f"é{i}" * draw.randrange(9) for i in range(3)])
        case 14:
            strange = np.zeros(shape, [("a", "f2"), ("b", "S3")])
            file.create_dataset(name, data=strange)
        case 15:
            file[name] = np.dtype("i8")  # a named type
        case _:
            new = old.copy()
            flat = new.reshape(-1).view(np.uint8) if new.size else np.zeros(1, np.uint8)
            flat[draw.randrange(len(flat))] = draw.randrange(256)
            file.create_dataset(name, data=new)


def safetensors_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """The header lies."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return data[:100]
    body = data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    entry = header[draw.choice(names)] if names else {}
    match draw.randrange(9):
        case 0:
            claimed = draw.choice((0, length - 1, length + 9, 10**8, 2**31, 2**63, 2**64 - 1))
            return struct.pack("<Q", claimed % 2**64) + data[8:]
        case 1 if entry:
            entry["dtype"] = draw.choice(("F16", "BF16", "I64", "BOOL", "F64", "F8_E4M3", "X", 1))
        case 2 if entry:
            entry["shape"] = draw.choice(([], [-1], [2**40], [2**32, 2**32], [1.5], None, [0]))
        case 3 if entry:
            first, last = entry["data_offsets"]
            entry["data_offsets"] = draw.choice(([0, 0], [last, first], [first, 10**15], [0, -1]))
        case 4 if names:
            header.pop(draw.choice(names))
        case 5 if names:
            header["extra." * draw.randrange(1, 9)] = dict(entry)
        case 6:
            bad = draw.choice((np.nan, np.inf, -np.inf))
            at = draw.randrange(max(1, len(body) // 4)) * 4
            body = body[:at] + np.float32(bad).tobytes() + body[at + 4 :]
        case 7:
            body = draw.choice((body + b"more", body[: len(body) // 2], b""))
        case _:
            changed = json_changed(draw, json.dumps(header).encode(), outside)
            return struct.pack("<Q", len(changed)) + changed + body
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Touch:
    """A pickle of it makes a file, if it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def torch_changed(draw: Random, path: Path, outside: Path) -> None:
    """Something else than a dictionary of tensors, saved as torch does."""
    try:
        state = torch.load(path, weights_only=True)
    except Exception:
        return
    inner = state.get("model", state) if isinstance(state, dict) else {}
    names = sorted(inner) if isinstance(inner, dict) else []
    name = draw.choice(names) if names else "x"
    nested: Any = []
    for _ in range(500):
        nested = [nested]
    harmful = Touch(outside / "unpickled")
    tensor = inner[name] if names else torch.zeros(2)
    others: tuple[Any, ...] = (
        *(None, 3, "text", [tensor], tensor, {}, {"model": {}}, {"model": 3}, {1: tensor}, nested),
        *({"model": {**inner, name: harmful}}, {"model": {**inner, name: "text"}}, harmful),
        *({"model": {**inner, name: value}} for value in (tensor.half(), tensor.reshape(-1)[:1])),
        {"model": {**inner, name: torch.full_like(tensor, float("nan"))}},
        {"model": {**inner, name: torch.zeros(1).expand(*[50_000] * 3)}},
        {"model": {**inner, name: tensor.to_sparse()}},
        {"model": {key: inner[key] for key in names if key != name}},
        {"model": {**inner, "extra": tensor}},
        {"model": {**inner, name: torch.empty(tensor.shape, device="meta")}},
        {"model": {**inner, name: torch.zeros(tensor.shape, dtype=torch.complex64)}},
    )
    old = draw.random() < 0.2
    torch.save(draw.choice(others), path, _use_new_zipfile_serialization=not old)


def npy_changed(draw: Random, path: Path, outside: Path) -> None:
    """An array of another type, shape or header."""
    old = np.load(path)
    size = max(1, old.size)
    others: tuple[Any, ...] = (
        *(np.zeros(0), np.zeros((), "f2"), np.array("x"), old.astype("f8"), old.astype(">f4")),
        *(old.reshape(-1), old[..., None], -old, old[:-1], np.zeros(old.shape, "c8"), old[::-1]),
        np.zeros(size, [("a", "i4")]),
        np.array([{"a": 1}, None], dtype=object),
    )
    if draw.random() < 0.7:
        np.save(path, draw.choice(others), allow_pickle=True)
        return
    shapes = ("(10000000000,)", "(-1,)", "(1e3,)", "()", "None", "(2**70,)", "((3,),)", "(" * 300)
    head = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {draw.choice(shapes)}, }}\n"
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + bytes(40))


def wav_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """A field of a WAV's header, or samples that are no sound."""
    at = draw.choice((4, 16, 20, 22, 24, 28, 32, 34, 40))
    if at in (20, 22, 32, 34):
        put = struct.pack("<H", draw.choice((0, 1, 3, 5, 255, 0x7FFF, 0xFFFE, 0xFFFF)))
    else:
        put = struct.pack("<I", draw.choice((0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**6)))
    if draw.random() < 0.3:
        at = 44 + 4 * draw.randrange(max(1, (len(data) - 44) // 4))
        put = struct.pack("<f", draw.choice((3e38, -3e38, float("nan"), float("inf"), 1e-45)))
    return data[:at] + put + data[at + len(put) :]


def _with_bytes(*changes: Change) -> tuple[Harm, ...]:
    return (*BYTES, *(file_change(change) for change in changes for _ in range(3)))


HDF5 = (*BYTES, *(hdf5_changed,) * 4)
SAFETENSORS = _with_bytes(safetensors_changed)
TORCH = (*BYTES * 2, *(torch_changed,) * 3)
NPY = (*BYTES, *(npy_changed,) * 2)
WAV = _with_bytes(wav_changed)
VECTORS = (*BYTES * 2, file_change(number_changed))
