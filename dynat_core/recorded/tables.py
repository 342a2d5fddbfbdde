"""Per-sample tables and recorded attack paths as bytes of Parquet or safetensors, and back. The same input gives the
same bytes, so files of a resumed run can be compared with those of a run that was never interrupted.
"""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynat_core.recorded.trajectories import Trajectories, Trajectory

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# The columns of a per-sample table, in the order of the file, and what they are stored as; further ones follow by name.
_TYPES = {
    "index": "int32",
    "split": "string",
    "label": "int16",
    "predicted": "int16",
    "steps": "int16",
    "gradients": "int16",
    "steps_to_fool": "int16",
    "clean_correct": "bool_",
    **dict.fromkeys(("fosc", "fosc_paper", "relative_fosc", "gradient_l1", "loss", "margin"), "float32"),
}
_ROWS_TOGETHER = 8  # paths read at once to get one of them
_PARTS = tuple(f.name for f in fields(Trajectories) if f.name != "settings")
_BITS = {"z": 11, "grad": 6, "logits": 10}  # what a picture needs; the curves beside it are kept whole


# ---------------------------------------------------------------------------------------------------------- samples


def samples_to_bytes(table: pd.DataFrame) -> bytes:
    """A table with one row per image as Parquet. The rows keep their order; the pandas index is left out."""
    import pyarrow as pa

    columns = {}
    order = {name: place for place, name in enumerate(_TYPES)}
    for name in sorted(table.columns, key=lambda name: (order.get(name, len(order)), name)):
        if name == "split":
            columns[name] = pa.array(table[name].astype(str).to_numpy(dtype=object), pa.string()).dictionary_encode()
        else:
            values = pa.array(table[name].to_numpy(), from_pandas=False)
            columns[name] = values.cast(getattr(pa, _TYPES[name])()) if name in _TYPES else values
    return _parquet(pa.table(columns), dictionary=["split"] if "split" in columns else False)


def read_samples(path: Path, columns: list[str] | None = None, split: str | None = None) -> pd.DataFrame:
    """The table in `path`, some columns, rows of one split. Raises OSError, KeyError or pyarrow's errors."""
    import pyarrow.parquet as pq

    wanted = None if columns is None else list(dict.fromkeys([*columns, *(["split"] if split else [])]))
    with pq.ParquetFile(path, memory_map=True) as file:
        lacking = [name for name in wanted or () if name not in file.schema_arrow.names]
        if lacking:
            raise KeyError(lacking[0])
        table = file.read(columns=wanted, use_threads=False).to_pandas()
    if split is not None:
        table = table[table["split"] == split].reset_index(drop=True)
    return table if columns is None else table[columns]


def _parquet(table: pa.Table, dictionary: list[str] | bool, rows: int | None = None) -> bytes:
    """Bytes rather than a file: a full disk is then met in one place, with Python's own error."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        compression="zstd",
        compression_level=9,
        row_group_size=rows or max(1, table.num_rows),
        use_dictionary=dictionary,  # type: ignore[arg-type]
        use_byte_stream_split=[f.name for f in table.schema if str(f.type) == "float"],  # type: ignore[arg-type]
        write_statistics=False,
        store_schema=True,
    )
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------------ paths


def paths_to_parquet(paths: Trajectories) -> bytes:
    """Recorded paths as Parquet, one row per image, a few to a group so that one is read without the rest.

    Points, gradients and logits are rounded to `_BITS`; loss, margin, every FOSC and gradient norm are exact.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shapes = {name: list(getattr(paths, name).shape[1:]) for name in _PARTS}
    note = {"settings": dict(paths.settings), "shapes": shapes, "indices": paths.index.tolist()}
    columns = {}
    for name in _PARTS:
        array = getattr(paths, name)
        if name in _BITS:
            array = _shortened(array, _BITS[name])
        flat = pa.array(np.ascontiguousarray(array, dtype="<i4" if name in ("index", "label") else "<f4").ravel())
        columns[name] = flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shapes[name])))
    table = pa.table(columns).replace_schema_metadata({"paths": json.dumps(note, allow_nan=False)})
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        compression="zstd",
        compression_level=9,
        row_group_size=_ROWS_TOGETHER,
        use_dictionary=False,
        use_byte_stream_split=True,
        write_statistics=False,
    )
    return out.getvalue()


def paths_note(path: Path) -> dict[str, Any]:
    """{"settings", "shapes", "indices"} of a file of paths, without reading the paths."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as file:
        return json.loads((file.schema_arrow.metadata or {})[b"paths"])


def read_path(path: Path, index: int) -> Trajectory | None:
    """The path of image `index` in a file of paths, or None; reads one row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as file:
        note = json.loads((file.schema_arrow.metadata or {})[b"paths"])
        if index not in note["indices"]:
            return None
        group, row = divmod(note["indices"].index(index), _ROWS_TOGETHER)
        table = file.read_row_group(group, use_threads=False)
    arrays = {name: _row(table, name, row, note["shapes"][name]) for name in _PARTS}
    arrays["index"], arrays["label"] = int(arrays["index"]), int(arrays["label"])
    return _restored(Trajectory(**arrays, settings=note["settings"]))


def read_curves(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """index, label (n,) and the named arrays (n, K+1, ...) of a file of paths; reads nothing else of it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as file:
        note = json.loads((file.schema_arrow.metadata or {})[b"paths"])
        table = file.read(columns=["index", "label", *names], use_threads=False)
    n = len(note["indices"])
    found = {name: table.column(name).combine_chunks() for name in table.column_names}
    curves = {name: found[name].flatten().to_numpy().reshape(n, *note["shapes"][name]) for name in names}
    return {name: found[name].to_numpy() for name in ("index", "label")} | curves


def _row(table: pa.Table, name: str, row: int, shape: list[int]) -> Any:
    column = table.column(name).combine_chunks()
    if not shape:
        return column[row].as_py()
    return np.array(column[row].values.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(shape)


def read_paths(path: Path) -> Trajectories:
    """All paths in a file of paths. Raises OSError, KeyError, ValueError or pyarrow's errors."""
    note = paths_note(path)
    arrays = read_curves(path, tuple(name for name in _PARTS if name not in ("index", "label")))
    found = Trajectories(**arrays, settings=note["settings"])
    restored = [_restored(found.one(k)) for k in range(len(found))]
    return replace(found, z=np.stack([one.z for one in restored]), grad=np.stack([one.grad for one in restored]))


def _shortened(array: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to `bits` bits after the leading one: the file compresses the zeros that are left."""
    drop = 23 - bits
    whole = np.ascontiguousarray(array, dtype="<f4").view(np.uint32)
    return ((whole + np.uint32(1 << (drop - 1))) & ~np.uint32((1 << drop) - 1)).view(np.float32)


def _restored(path: Trajectory) -> Trajectory:
    """What rounding took, where it is known: points that lay on a face of the set lie on it again, and the gradients of
    each point are scaled so that the map adds up to the recorded FOSC (L-inf)."""
    if path.settings["norm"] != "linf":
        return path
    low = np.maximum(path.x - path.settings["eps"], path.settings["low"])
    high = np.minimum(path.x + path.settings["eps"], path.settings["high"])
    rounding = 2.0 ** -_BITS["z"]  # of values up to 1
    z = np.where(path.z - low < rounding, low, np.where(high - path.z < rounding, high, path.z))
    path = replace(path, z=z.astype(np.float32))
    found = path.fosc_map().sum(axis=(1, 2))
    factor = np.where((found > 0) & (path.fosc > 0), path.fosc / np.where(found > 0, found, 1), 1)
    return replace(path, grad=(path.grad * factor[:, None, None, None]).astype(np.float32))
