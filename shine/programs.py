"""Programs that are kept as JAX has lowered them, beside those that it has compiled.

JAX keeps what it compiled (`jax_compilation_cache_dir`), but to find it there it first traces the
Python function and lowers it to StableHLO: for the programs of a sub-tile that takes several times
as long as to load them. Here the lowered ones are kept, in `programs` below the same folder, by all
that they depend on. Without that folder a function is compiled as by `jax.jit`.
"""

import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax import export

from shine import provenance
from shine.atomic import write_atomically

LOGGER = logging.getLogger(__name__)
_CHECKSUM = 64  # characters before each program
_MAPPINGS, _MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


class Program:
    """`jax.jit` of a function whose first `n_static` arguments are static and have a faithful repr.

    The others are pytrees of arrays; named tuples that it returns have to be known to
    `jax.export`. `compiled` has what this process runs, by the shapes of the arguments.
    """

    def __init__(self, function: Callable, n_static: int = 0) -> None:
        self._function, self._n_static = function, n_static
        self._jitted = jax.jit(function, static_argnums=tuple(range(n_static)))
        self._lock = threading.Lock()
        self.compiled: dict[tuple, Callable] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *arguments):
        static, arrays = arguments[: self._n_static], arguments[self._n_static :]
        leaves, tree = jax.tree.flatten(arrays)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._jitted(*arguments)
        # these are a matter of each thread
        widest = jax.dtypes.canonicalize_dtype(np.float64)
        precision = widest, jax.config.jax_default_matmul_precision
        signature = (static, tree, tuple(map(jax.typeof, leaves)), precision)
        call = self.compiled.get(signature)
        if call is None:
            with self._lock:
                call = self.compiled.get(signature)  # another thread may have made it meanwhile
                if call is None:
                    call = self.compiled[signature] = self._prepared(signature, arguments)
        return call(*leaves)

    def _prepared(self, signature: tuple, arguments: tuple) -> Callable:
        """The function of the arguments' leaves: as it was kept, or kept from now on."""
        static, tree, kinds, precision = signature

        def of_leaves(*leaves):
            return self._function(*static, *jax.tree.unflatten(tree, leaves))

        of_leaves.__name__ = self.__name__
        folder = jax.config.jax_compilation_cache_dir
        if not folder or not jax.config.jax_enable_compilation_cache or "://" in folder:
            return jax.jit(of_leaves)
        depends_on = [*map(repr, (static, tree, kinds, precision)), jax.default_backend()]
        path = Path(folder, "programs", f"{self.__name__}-{_known_by(depends_on)}")
        kept = _read(path)
        if kept is None:
            leaves = jax.tree.leaves(arguments[self._n_static :])
            kept = bytes(export.export(jax.jit(of_leaves))(*leaves).serialize())
            _write(path, kept)
        return jax.jit(export.deserialize(bytearray(kept)).call)


def program(n_static: int = 0) -> Callable[[Callable], Program]:
    """`Program`, as a decorator."""
    return functools.partial(Program, n_static=n_static)


def make_room() -> None:
    """Let go of all compiled programs if this process has used up half of its memory mappings.

    On a processor every program holds some, and each scene has programs that others have no use
    for. At the kernel's limit (65,530, unless set otherwise) LLVM can compile nothing more. What is
    needed again is loaded from disk.
    """
    try:
        mappings, most = _MAPPINGS.read_text().count("\n"), int(_MOST_MAPPINGS.read_text())
    except OSError:  # not Linux
        return
    if mappings > most // 2:
        LOGGER.info("%d of %d memory mappings in use: compiled programs let go", mappings, most)
        jax.clear_caches()


def _known_by(depends_on: list[str]) -> str:
    versions = [f"{name} {version}" for name, version in provenance.package_versions().items()]
    return provenance.digest([provenance.code_digest(), *versions, *depends_on])


def _read(path: Path) -> bytes | None:
    """A program that was kept whole; None if there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, kept = content[:_CHECKSUM], content[_CHECKSUM:]
    return kept if provenance.digest([kept]).encode() == checksum else None


def _write(path: Path, kept: bytes) -> None:
    try:
        write_atomically(path, provenance.digest([kept]).encode() + kept)
    except OSError as error:
        LOGGER.warning("%s: cannot keep a program, which costs later runs time: %s", path, error)
