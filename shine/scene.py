"""The scene: all blends of a sub-tile in all the quadrants that saw them, as batched arrays.

Only (blend, quadrant) pairs that overlap exist: the views. Views of one stamp size and one number
of members form a `Tier`. The pixels that any stamp covers, over all quadrants, form one compact
vector; each stamp knows the place of its pixels in it. So neighbours share pixels exactly, stamps
are clipped at a detector's edge and at masked pixels by construction, and nothing of full-frame
size enters the inference. The vector's last entry is a dump for pixels outside a quadrant or
masked; it has weight 0.

The work is done in chunks of views: a chunk holds all the views of each of its blends, and its
shapes depend on the tier's stamp size and number of members alone. So a program compiled for one
sub-tile serves them all, and sources that have converged can be left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from shine.profiles import Profile
from shine.render import Galaxies, StampFrame


@dataclass(frozen=True)
class Tier:
    """The m views drawn with stamps of n x n pixels, each of a blend of c sources."""

    size: int
    frame: StampFrame  # (m, ...); the last one is padding
    pixel: Int[Array, "m n*n"]  # place of each stamp pixel in the scene's vector
    # On the host: the blends of this tier (b,), and their views first[i] ... first[i + 1] - 1
    blend: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class Scene:
    """What one sub-tile's pixels say: data, weights, and the geometry to model them."""

    tiers: tuple[Tier, ...]
    data_adu: Float[Array, "p"]  # background-subtracted
    weight: Float[Array, "p"]  # 1 / variance, ADU^-2; 0 in the dump
    members: np.ndarray  # (blends, most members) rows of the sources; -1 where none
    coefficients: np.ndarray  # (n, k) of the sources' profiles
    profile: Profile

    @property
    def n_sources(self) -> int:
        """Rows of the source arrays."""
        return len(self.coefficients)

    def on_device(self) -> "Scene":
        """With everything large where JAX computes."""
        tiers = tuple(
            replace(tier, frame=jax.device_put(tier.frame), pixel=jax.device_put(tier.pixel))
            for tier in self.tiers
        )
        data_adu, weight = jax.device_put((self.data_adu, self.weight))
        return replace(self, tiers=tiers, data_adu=data_adu, weight=weight)


class Chunk(NamedTuple):
    """v views of b blends with c members each; what is padding has no weight and no light."""

    frame: StampFrame  # (v, ...)
    residual: Float[Array, "v n n"]  # data minus the model of all sources, ADU
    weight: Float[Array, "v n n"]
    slot: Int[Array, "v"]  # the blend of each view, below b
    n_views: Int[Array, ""]  # without padding, which stands behind
    coefficients: Float[Array, "b c k"]
    present: Float[Array, "b c"]

    def galaxies(self, observed: Float[Array, "b c 6"]) -> Galaxies:
        """What each view shows (v, ...)."""
        batch = Galaxies(observed, self.coefficients, self.present)
        return jax.tree.map(lambda a: a[self.slot], batch)


class Batch(NamedTuple):
    """Which views and blends of a tier make up one chunk (host arrays)."""

    tier: int
    view: np.ndarray  # (v,) rows of the tier; its last row where padded
    slot: np.ndarray  # (v,)
    n_views: int  # without padding
    blend: np.ndarray  # (b,) blends of the scene; -1 where padded
    source: np.ndarray  # (b, c) rows of the sources; -1 where padded


def batches(scene: Scene, active: np.ndarray) -> Iterator[Batch]:
    """Pack the active blends (bool per blend) into chunks."""
    for k, tier in enumerate(scene.tiers):
        chosen = np.flatnonzero(active[tier.blend])
        n_views = np.diff(tier.first)
        capacity = _capacity(tier)
        start = 0
        while start < len(chosen):
            total = np.cumsum(n_views[chosen[start : start + capacity // 2]])
            stop = start + max(1, int(np.searchsorted(total, capacity, side="right")))
            yield _batch(scene, k, chosen[start:stop], capacity)
            start = stop


def empty_batch(scene: Scene, k: int) -> Batch:
    """A chunk of a tier that holds nothing."""
    tier = scene.tiers[k]
    capacity, n_members = _capacity(tier), tier.frame.centre.shape[1]
    return Batch(
        tier=k,
        view=np.full(capacity, len(tier.pixel) - 1, np.int32),
        slot=np.zeros(capacity, np.int32),
        n_views=0,
        blend=np.full(capacity // 2, -1),
        source=np.full((capacity // 2, n_members), -1),
    )


def _capacity(tier: Tier) -> int:
    """Views per chunk: enough for the blend that is seen most often."""
    capacity = chunk_views(tier.size, tier.frame.centre.shape[1])
    while capacity < np.diff(tier.first).max(initial=1):
        capacity *= 2
    return capacity


def _batch(scene: Scene, k: int, chosen: np.ndarray, capacity: int) -> Batch:
    tier = scene.tiers[k]
    first, last = tier.first[chosen], tier.first[chosen + 1]
    views = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    slots = np.repeat(np.arange(len(chosen)), last - first)
    padding = capacity - len(views)
    n_members = tier.frame.centre.shape[1]
    blend = np.full(capacity // 2, -1)
    blend[: len(chosen)] = tier.blend[chosen]
    source = np.full((len(blend), n_members), -1)
    source[: len(chosen)] = scene.members[tier.blend[chosen], :n_members]
    return Batch(
        tier=k,
        view=np.append(views, np.full(padding, len(tier.pixel) - 1)).astype(np.int32),
        slot=np.append(slots, np.zeros(padding)).astype(np.int32),
        n_views=len(views),
        blend=blend,
        source=source,
    )


def chunk_views(size: int, n_members: int) -> int:
    """Views per chunk: some megabytes of derivatives on a CPU, more to keep an accelerator busy."""
    budget = 2**19 if jax.default_backend() == "cpu" else 2**24
    views = budget // (size**2 * n_members)
    return int(np.clip(2 ** int(np.log2(max(views, 1))), 16, 4096))


def gather(scene: Scene, residual: Float[Array, "p"], batch: Batch) -> Chunk:
    """The pixels and geometry of one chunk."""
    tier = scene.tiers[batch.tier]
    frame, residuals, weights = _gather(
        (tier.frame, tier.pixel), (residual, scene.weight), batch.view
    )
    shape = (-1, tier.size, tier.size)
    return Chunk(
        frame=frame,
        residual=residuals.reshape(shape),
        weight=weights.reshape(shape),
        slot=batch.slot,
        n_views=np.int32(batch.n_views),
        coefficients=scene.coefficients[batch.source],
        present=(batch.source >= 0).astype(np.float32),
    )


def subtract(
    scene: Scene,
    residual: Float[Array, "p"],
    batch: Batch,
    change: tuple[Float[Array, "v n n"], Bool[np.ndarray, "v"]],
) -> Float[Array, "p"]:
    """The residual once the chosen stamps of a chunk have changed; the old array is consumed."""
    return _scatter(residual, scene.tiers[batch.tier].pixel, batch.view, change)


@jax.jit
def _gather(tier, vectors, rows):
    frame, pixel = jax.tree.map(lambda a: a[rows], tier)
    return (frame, *(vector[pixel] for vector in vectors))


@partial(jax.jit, donate_argnums=0)
def _scatter(residual, pixel, rows, change):
    stamps, taken = change
    stamps = jnp.where(taken[:, None], stamps.reshape(len(rows), -1), 0.0)
    return residual.at[pixel[rows]].add(-stamps)
