"""Work in pieces of one size, so that it is compiled once, and on all of a CPU's cores."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

_BLOCK = 512  # sources


def in_parallel(work: Callable, todo: list) -> Iterator[tuple[Any, Any]]:
    """Items and what `work` makes of them, in their order."""

    def in_single_precision(item):  # JAX's precision is a matter of each thread
        with jax.enable_x64(False):
            return work(item)

    # As many at a time as a CPU has cores; an accelerator fills itself with one.
    cores = int(os.environ.get("NPROC") or len(os.sched_getaffinity(0)))  # as XLA counts them
    workers = cores if jax.default_backend() == "cpu" else 2
    with ThreadPoolExecutor(workers) as pool:
        yield from zip(todo, pool.map(in_single_precision, todo), strict=True)


def in_blocks(function: Callable, per_source: tuple, *shared: np.ndarray):
    """Apply a function of sources (n rows) to any number of them: it is compiled for one number.

    The arrays of `per_source`, (prior, z, ...), have a row for each; scalars and `shared` do not.
    """
    n = len(per_source[1])

    def block(array: np.ndarray, start: int) -> np.ndarray:
        if np.ndim(array) == 0:
            return array
        return np.resize(array[start : start + _BLOCK], (_BLOCK, *array.shape[1:]))

    parts = []
    for start in range(0, n, _BLOCK):
        some = jax.tree.map(lambda a, start=start: block(a, start), per_source)
        found = function(*some, *shared)
        parts.append(jax.tree.map(lambda a, start=start: np.asarray(a)[: n - start], found))
    return jax.tree.map(lambda *blocks: np.concatenate(blocks), *parts)
