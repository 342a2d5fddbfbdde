"""One bytes blob for a JSON header and its arrays: what travels to the browser, from the analysis helper and into the
cache.

Layout: u32 little-endian length of the header, the header as JSON (its key `arrays` says name -> dtype, shape, offset),
zero bytes up to a multiple of 8, then the arrays, each padded to a multiple of 8. No pickles, so nothing in a blob can
run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_CODES = {"uint8": "u1", "uint16": "u2", "int32": "i4", "float32": "f4"}
_ALIGN = 8


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return `header` and `arrays` as one blob.

    header: JSON-able, without NaN (map it to None first). arrays: uint8, uint16, int32 or float32, any shape.
    Raises TypeError for another dtype, ValueError for a NaN in the header.
    """
    places: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        if array.dtype.name not in _CODES:
            raise TypeError(f"array {name!r} is {array.dtype}; a blob holds {', '.join(_CODES)}")
        raw = np.ascontiguousarray(array).tobytes()
        raw += b"\0" * (-len(raw) % _ALIGN)
        places[name] = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape), "off": offset}
        offset += len(raw)
        parts.append(raw)
    return _joined(_json({**header, "arrays": places}), *parts)


def _json(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":"), allow_nan=False).encode()


def _joined(head: bytes, *parts: bytes) -> bytes:
    front = len(head).to_bytes(4, "little") + head
    return b"".join([front, b"\0" * (-len(front) % _ALIGN), *parts])


class Blob:
    """What `pack` makes, but for entries of the header that are told later: packed once, sent many times."""

    def __init__(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Raises TypeError and ValueError as `pack` does."""
        blob = pack(header, arrays)
        end = 4 + int.from_bytes(blob[:4], "little")
        self._head, self._arrays = blob[4 : end - 1], blob[end + -end % _ALIGN :]  # without the closing brace

    def with_header(self, **more: Any) -> bytes:
        """The whole blob; `more` holds at least one entry, and none that is there already."""
        return _joined(self._head + b"," + _json(more)[1:], self._arrays)


def unpack(blob: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return (header, arrays) of a blob made by `pack`; the arrays are read-only views into it.

    Raises ValueError if the blob is cut short or is not one of ours.
    """
    try:
        length = int.from_bytes(blob[:4], "little")
        header = json.loads(blob[4 : 4 + length])
        places = header.pop("arrays")
        start = -(-(4 + length) // _ALIGN) * _ALIGN
        kinds = {code: np.dtype("<" + code) for code in _CODES.values()}
        arrays = {
            name: np.frombuffer(
                blob, kinds[at["dtype"]], count=int(np.prod(at["shape"], dtype=np.int64)), offset=start + at["off"]
            ).reshape(at["shape"])
            for name, at in places.items()
        }
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"not a complete blob: {error}") from error
    return header, arrays
