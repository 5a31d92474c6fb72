"""What one gradient costs, and what this machine could do at best.

A gradient is one pass of `shine.newton.measure` over (blend, quadrant) pairs: the log likelihood's
first derivatives, and the curvature that comes with them.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from shine import newton, render
from shine.blocks import in_blocks, in_parallel
from shine.euclid.scene import ExposureSet
from shine.scene import Batch, Scene, batches, gather

# Real FFTs of a pair: one back per source and parameter, one forth of the residual
INVERSE_FFTS_PER_SOURCE, FORWARD_FFTS = 6, 1
FFT_SIZE = 48  # px, the stamp that the printed rate is of
_LARGE_BYTES, _CACHED_BYTES = 2**28, 2**18


def gradient(exposures: ExposureSet, repeats: int = 3) -> list[dict]:
    """Time one gradient of all pairs at the catalogue's values, tier by tier (best of `repeats`).

    Each entry has the tier's stamp width (px), sources per blend, pairs, and the seconds that they
    take with all cores at work, fetching their pixels included.
    """
    scene = exposures.scene.on_device()
    observed = in_blocks(
        jax.jit(lambda prior, z: prior.observed(z)), (exposures.prior, exposures.prior.start)
    )
    work = list(batches(scene, np.ones(len(scene.members), bool)))

    def measure(batch: Batch) -> None:
        chunk = gather(scene, scene.data_adu, batch)
        jax.block_until_ready(newton.measure(scene.profile, chunk, observed[batch.source]))

    entries = []
    for k, tier in enumerate(scene.tiers):
        own = [batch for batch in work if batch.tier == k]

        def sweep(own=own) -> None:
            list(in_parallel(measure, own))

        entries.append(
            {
                "stamp_px": tier.size,
                "members": tier.frame.centre.shape[1],
                "pairs": int(tier.first[-1]),
                "seconds": best_seconds(sweep, repeats),
            }
        )
    return entries


def cost_of_pair(scene: Scene, k: int) -> dict[str, float]:
    """Arithmetic (flop) and bytes of one pair of tier k, from XLA's cost analysis.

    XLA counts the body of a loop once, however often it runs. So this is not `measure` itself but
    one pass of its loop, the derivatives of a batch of pairs, and of isolated sources only: those
    of a blend are in a loop, too.
    """
    tier, n = scene.tiers[k], newton._BATCH
    if tier.frame.centre.shape[1] != 1:
        raise ValueError("the cost is known of isolated sources only")
    shape = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype), tier.frame)
    floats = partial(jax.ShapeDtypeStruct, dtype=np.float32)
    galaxies = render.Galaxies(
        floats((n, 1, 6)), floats((n, 1, scene.coefficients.shape[1])), floats((n, 1))
    )
    pixels = floats((n, 2, tier.size, tier.size))
    program = jax.jit(jax.vmap(partial(render.render_derivatives, scene.profile)))
    cost = program.lower(shape, galaxies, pixels).compile().cost_analysis()
    return {"flop": cost["flops"] / n, "bytes": cost["bytes accessed"] / n}


def fractions(scene: Scene, entries: list[dict]) -> dict[str, object]:
    """What fraction of this machine's limits the gradient of the isolated sources reaches.

    For each limit, the time that it would allow over the time measured: its FFTs alone, all its
    arithmetic at the rate of the FFTs, and all its bytes at the rate of a copy that fits the cache
    (as a batch of pairs does) or of one that does not. More than 1 of the latter says that the
    cache has served.
    """
    isolated = [(k, entry) for k, entry in enumerate(entries) if entry["members"] == 1]
    cached, memory = copy_rate(_CACHED_BYTES), copy_rate(_LARGE_BYTES)
    seconds = sum(entry["seconds"] for _, entry in isolated)
    bound = dict.fromkeys(("fft", "arithmetic", "cache", "memory"), 0.0)
    tiers = []
    for k, entry in isolated:
        size, pairs, cost = entry["stamp_px"], entry["pairs"], cost_of_pair(scene, k)
        rate = fft_rate(size)
        # a real transform is half a complex one of 5 n log2 n
        flop_rate = rate * 2.5 * size**2 * np.log2(size**2)
        bound["fft"] += pairs * (INVERSE_FFTS_PER_SOURCE + FORWARD_FFTS) / rate
        bound["arithmetic"] += pairs * cost["flop"] / flop_rate
        bound["cache"] += pairs * cost["bytes"] / cached
        bound["memory"] += pairs * cost["bytes"] / memory
        tiers.append({"stamp_px": size, "pairs": pairs, **cost, "fft_flop_per_s": flop_rate})
    return {
        "fft_stamps_per_s": fft_rate(FFT_SIZE),
        "fft_stamp_px": FFT_SIZE,
        "cache_bytes_per_s": cached,
        "memory_bytes_per_s": memory,
        "ffts_per_pair": INVERSE_FFTS_PER_SOURCE + FORWARD_FFTS,
        "cost_per_pair": tiers,
        "isolated_seconds": seconds,
        "fraction": {name: limit / seconds for name, limit in bound.items()},
    }


def fft_rate(size: int) -> float:
    """Inverse real FFTs of stamps of `size` px per second, all cores: the best of some batches."""
    program = jax.jit(lambda hat: jnp.fft.irfft2(hat, s=(size, size)))

    def transform(hats: list) -> None:
        list(in_parallel(lambda hat: jax.block_until_ready(program(hat)), hats))

    rates = []
    for batch in (16, 96, 768):
        hat = jnp.ones((batch, size, size // 2 + 1), jnp.complex64)
        calls = max(4, 3072 // batch)

        rates.append(calls * batch / best_seconds(partial(transform, [hat] * calls)))
    return max(rates)


def copy_rate(n_bytes: int) -> float:
    """Bytes per second that are read and written by NumPy's copies of `n_bytes`, all cores."""
    threads = len(os.sched_getaffinity(0))
    times = max(1, _LARGE_BYTES // n_bytes)
    pairs = [np.ones((2, n_bytes // 4), np.float32) for _ in range(threads)]

    def copy(pair: np.ndarray) -> None:
        for _ in range(times):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(threads) as pool:
        seconds = best_seconds(lambda: list(pool.map(copy, pairs)))
    return 2.0 * threads * times * n_bytes / seconds


def best_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of `repeats` runs, after one that compiles."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
