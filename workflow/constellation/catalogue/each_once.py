"""Whether each of any number of identifiers is there once, in bounded memory and linear time."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASS_SIZE = 1 << 22  # identifiers looked at together: 32 MB
_MIX = np.uint64(0x9E3779B97F4A7C15)  # spreads identifiers that follow one another


class EachOnce:
    """Collects identifiers in files, one for each class of their hashes; threads may share it."""

    def __init__(self, folder: Path, n_expected: int) -> None:
        self._bits = max((n_expected // CLASS_SIZE).bit_length(), 1)
        self._paths = [folder / f"{number}.ids" for number in range(1 << self._bits)]
        self._lock = threading.Lock()

    def add(self, ids: NDArray[np.int64]) -> None:
        """Take identifiers (n,) in."""
        classes = (ids.view(np.uint64) * _MIX) >> np.uint64(64 - self._bits)
        order = np.argsort(classes, kind="stable")
        edges = np.searchsorted(classes[order], np.arange(len(self._paths) + 1))
        ordered = ids[order]
        with self._lock:
            for path, (first, after) in zip(self._paths, pairwise(edges), strict=True):
                if first < after:
                    with path.open("ab") as file:
                        file.write(ordered[first:after].tobytes())

    def repeated(self) -> int | None:
        """One that was taken in more than once; None if there is none."""
        for path in self._paths:
            if not path.exists():
                continue
            ids = np.sort(np.fromfile(path, np.int64))
            again = ids[1:][ids[1:] == ids[:-1]]
            if len(again):
                return int(again[0])
        return None
