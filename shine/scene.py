"""The scene: all sources of a sub-tile in all the quadrants that saw them, as batched arrays.

Only (source, quadrant) pairs that overlap exist. Pairs of one stamp size form a `Tier`. The pixels
that any stamp covers, over all quadrants, form one compact vector; each stamp knows the place of
its pixels in it. So blends share pixels exactly, stamps are clipped at a detector's edge and at
masked pixels by construction, and nothing of full-frame size enters the inference. The vector's
last entry is a dump for pixels outside a quadrant or masked; it has weight 0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from shine import render
from shine.render import Profile, StampFrame


class Tier(eqx.Module):
    """The m pairs drawn with stamps of one size."""

    frame: StampFrame  # (m, ...)
    source: Int[Array, "m"]  # row of the source; padding points at the last, unused row
    pixel: Int[Array, "m n*n"]  # place of each stamp pixel in the scene's vector

    @property
    def size(self) -> int:
        """Stamp width in pixels."""
        return self.frame.psf_hat.shape[-2]


Stamps = tuple[Float[Array, "m n*n"], ...]  # one array per tier


class Scene(eqx.Module):
    """What one sub-tile's pixels say: data, weights, and the geometry to model them."""

    tiers: tuple[Tier, ...]
    data_adu: Float[Array, "p"]  # background-subtracted
    weight: Float[Array, "p"]  # 1 / variance, ADU^-2; 0 in the dump
    blend: Int[Array, "n"]  # number of the blend that each source belongs to, below n
    n_sources: int = eqx.field(static=True)  # rows of the source arrays, padding included
    profile: Profile = eqx.field(static=True)

    def draw(self, observed: Float[Array, "n 6"]) -> tuple[Float[Array, "p"], Stamps]:
        """The model image in ADU at every pixel of the vector, and the stamps it is the sum of."""
        total = jnp.zeros_like(self.data_adu)
        stamps = []
        for tier in self.tiers:
            drawn = self._map(tier, observed, lambda f, o: render.render(self.profile, f, o))
            stamps.append(drawn.reshape(tier.pixel.shape))
            total = total.at[tier.pixel].add(stamps[-1])
        return total, tuple(stamps)

    def linearise(self, observed: Float[Array, "n 6"]) -> tuple[Array, "Jacobian"]:
        """The model image and its derivatives by the observed parameters."""
        total = jnp.zeros_like(self.data_adu)
        stamps = []
        for tier in self.tiers:
            model, derivatives = self._map(
                tier, observed, lambda f, o: render.render_jacobian(self.profile, f, o)
            )
            total = total.at[tier.pixel].add(model.reshape(tier.pixel.shape))
            stamps.append(derivatives.reshape(*derivatives.shape[:2], -1))
        return total, Jacobian(tuple(stamps))

    def bend(self, observed: Float[Array, "n 6"], pixels: Float[Array, "p"]) -> Array:
        """Second derivatives (n, 6, 6) of sum(pixels x model) by each source's parameters."""
        total = jnp.zeros((self.n_sources, render.N_PARAMETERS, render.N_PARAMETERS))
        for tier in self.tiers:
            pull = pixels[tier.pixel].reshape(-1, tier.size, tier.size)
            terms = jax.lax.map(
                lambda triple: render.render_bend(self.profile, *triple),
                (tier.frame, observed[tier.source], pull),
                batch_size=_chunk(),
            )
            total = total.at[tier.source].add(terms)
        return total

    def project(self, stamps: Stamps, pixels: Float[Array, "p"]) -> Float[Array, "n"]:
        """Sum over the pixels of each source's stamps, weighted with `stamps`."""
        total = jnp.zeros(self.n_sources)
        for tier, stamp in zip(self.tiers, stamps, strict=True):
            total = total.at[tier.source].add(jnp.sum(stamp * pixels[tier.pixel], axis=-1))
        return total

    def sum_per_source(self, pixels: Float[Array, "*b p"]) -> Float[Array, "*b n"]:
        """Sum over the pixels of each source's stamps."""
        total = jnp.zeros((*pixels.shape[:-1], self.n_sources))
        for tier in self.tiers:
            total = total.at[..., tier.source].add(pixels[..., tier.pixel].sum(axis=-1))
        return total

    def _map(self, tier: Tier, observed: Array, draw):
        return jax.lax.map(
            lambda pair: draw(*pair), (tier.frame, observed[tier.source]), batch_size=_chunk()
        )


def _chunk() -> int:
    # Cache-sized chunks are several times faster on a CPU than one large batch; an accelerator
    # wants all its threads busy.
    return 32 if jax.default_backend() == "cpu" else 1024


class Jacobian(eqx.Module):
    """Derivatives of the model image by the observed parameters, kept stamp by stamp."""

    stamps: tuple[Float[Array, "m 6 n*n"], ...]  # one array per tier

    def unlinearised(self, scene: Scene, observed: Float[Array, "n 6"]) -> Stamps:
        """The stamps of the model at the point of linearisation: it is linear in the flux."""
        return tuple(
            stamps[:, 0] * observed[tier.source, 0, None]
            for tier, stamps in zip(scene.tiers, self.stamps, strict=True)
        )

    def gradient(self, scene: Scene, pixels: Float[Array, "p"]) -> Float[Array, "n 6"]:
        """J^T pixels."""
        total = jnp.zeros((scene.n_sources, render.N_PARAMETERS))
        for tier, stamps in zip(scene.tiers, self.stamps, strict=True):
            terms = jnp.einsum("mkp,mp->mk", stamps, pixels[tier.pixel])
            total = total.at[tier.source].add(terms)
        return total

    def push(self, scene: Scene, step: Float[Array, "n 6"]) -> Float[Array, "p"]:
        """J step: the change of the model image."""
        total = jnp.zeros_like(scene.data_adu)
        for tier, stamps in zip(scene.tiers, self.stamps, strict=True):
            terms = jnp.einsum("mkp,mk->mp", stamps, step[tier.source])
            total = total.at[tier.pixel].add(terms)
        return total

    def blocks(self, scene: Scene) -> Float[Array, "n 6 6"]:
        """The diagonal blocks of J^T W J: each source with itself."""
        total = jnp.zeros((scene.n_sources, render.N_PARAMETERS, render.N_PARAMETERS))
        for tier, stamps in zip(scene.tiers, self.stamps, strict=True):
            weight = scene.weight[tier.pixel]
            terms = jnp.einsum("mkp,mp,mlp->mkl", stamps, weight, stamps)
            total = total.at[tier.source].add(terms)
        return total
