"""`method: nuts`: samples of the whole posterior by NumPyro's NUTS, whitened at the mode.

Chains run side by side, each from a draw of the Laplace approximation. The state after the warm-up
can be kept in a file, from which a job that was interrupted goes on: on a CPU with the very same
draws. On an accelerator sums over pixels differ in the last bits from run to run, and so, after
some steps, do the draws.
"""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float, Int
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS
from numpyro.infer.hmc import HMCState

from shine.atomic import write_atomically
from shine.inference_config import NutsConfig
from shine.numpyro_model import SHEAR, SOURCES, Target, Whitening, model

logger = logging.getLogger(__name__)

_DEEPEST_TREE = 8  # whitened, three or four doublings are usual


@dataclass(frozen=True)
class NutsResult:
    """Samples of the shear and moments of all parameters (host arrays)."""

    shear: np.ndarray  # (chains, draws, 2) reduced shear g1, g2
    r_hat: np.ndarray  # (2,) split R-hat of the shear
    n_eff: np.ndarray  # (2,) effective samples of the shear
    divergences: int
    gradients: int  # evaluations of the posterior's gradient after the warm-up, all chains
    parameters: np.ndarray  # (n, 6) posterior means: flux, hlr, intrinsic e1, e2, offset u, v
    covariance: np.ndarray  # (n, 6, 6)
    converged: bool  # R-hat of both components is below `NutsConfig.largest_r_hat`

    @property
    def shear_mean(self) -> np.ndarray:
        """(2,) posterior mean."""
        return self.shear.reshape(-1, 2).mean(axis=0)

    @property
    def shear_covariance(self) -> np.ndarray:
        """(2, 2)."""
        return np.cov(self.shear.reshape(-1, 2), rowvar=False)


def sample_nuts(
    target: Target, config: NutsConfig, seed: int, checkpoint: Path | None = None
) -> NutsResult:
    """Sample the posterior. Check `NutsResult.converged` and `divergences`.

    With a `checkpoint` (an .npz file), the state after the warm-up is kept there. If the file is
    there already, and belongs to the same scene, priors, settings, seed and versions, the warm-up
    is skipped; if it does not, or is damaged, the log says so and it is replaced.
    """
    with jax.enable_x64(False):
        return _sample(target, config, seed, checkpoint)


class _Record(NamedTuple):
    """What is kept of the draws."""

    shear: Float[Array, "draws chains 2"]
    divergences: Int[Array, ""]
    gradients: Int[Array, ""]
    offset: Float[Array, "n 6"]  # sum over draws and chains of the parameters less the mode's
    square: Float[Array, "n 6 6"]


def _sample(target: Target, config: NutsConfig, seed: int, checkpoint: Path | None) -> NutsResult:
    kernel = _kernel(config.warmup, config.target_accept)
    keys = jax.random.split(jax.random.PRNGKey(seed), config.chains)
    state = _start(kernel, config.warmup, keys, target)
    nothing = _nothing(target, config)
    digest = _digest(target, config, seed) if checkpoint else ""
    found = _load(checkpoint, digest, (state, target.whitening)) if checkpoint else None
    if found is None:
        state, _ = _advance(kernel, config.warmup, state, nothing, target)
        if checkpoint:
            _save(checkpoint, digest, (state, target.whitening))
    else:
        state, whitening = found
        target = target.around(whitening)
    _, record = _advance(kernel, config.draws, state, nothing, target)
    return _result(target, config, jax.device_get(record))


@lru_cache(maxsize=1)
def _kernel(n_warmup: int, target_accept: float) -> NUTS:
    """Of one length of warm-up, which a kernel keeps; compiled code is shared by scenes alike."""
    del n_warmup
    return NUTS(model, target_accept_prob=target_accept, max_tree_depth=_DEEPEST_TREE)


@partial(jax.jit, static_argnums=(0, 1))
def _start(kernel: NUTS, n_warmup: int, keys: Array, target: Target) -> HMCState:
    """Chains that begin at draws from the Laplace approximation."""

    def chain(key: Array) -> HMCState:
        key_x, key_y, key = jax.random.split(key, 3)
        x = jax.random.normal(key_x, target.whitening.z.shape)
        y = jax.random.normal(key_y, (2,))
        return kernel.init(key, n_warmup, {SOURCES: x, SHEAR: y}, (target,), {})

    return jax.vmap(chain)(keys)


@partial(jax.jit, static_argnums=0)
def _advance(
    kernel: NUTS, n: int, state: HMCState, record: _Record, target: Target
) -> tuple[HMCState, _Record]:
    """n steps of all chains: one program for the warm-up, whose record is dropped, and the rest."""
    origin = target.origin()
    middle = target.parameters(origin[SOURCES], origin[SHEAR])[1]

    def step(k: Array, carry):
        state, record = carry
        state = jax.vmap(lambda chain: kernel.sample(chain, (target,), {}))(state)
        shear, parameters = jax.vmap(target.parameters)(state.z[SOURCES], state.z[SHEAR])
        off = parameters - middle
        return state, _Record(
            shear=record.shear.at[k].set(shear, mode="drop"),
            divergences=record.divergences + state.diverging.sum(),
            gradients=record.gradients + state.num_steps.sum(),
            offset=record.offset + off.sum(axis=0),
            square=record.square + jnp.einsum("cni,cnj->nij", off, off),
        )

    return jax.lax.fori_loop(0, n, step, (state, record))


def _nothing(target: Target, config: NutsConfig) -> _Record:
    n = len(target.whitening.z)
    return _Record(
        shear=jnp.zeros((config.draws, config.chains, 2)),
        divergences=jnp.zeros((), jnp.int32),
        gradients=jnp.zeros((), jnp.int32),
        offset=jnp.zeros((n, 6)),
        square=jnp.zeros((n, 6, 6)),
    )


def _result(target: Target, config: NutsConfig, record: _Record) -> NutsResult:
    shear = record.shear.swapaxes(0, 1)
    r_hat = split_gelman_rubin(shear)
    count = config.draws * config.chains
    offset, square = record.offset / count, record.square / count
    origin = target.origin()
    middle = np.asarray(target.parameters(origin[SOURCES], origin[SHEAR])[1])
    result = NutsResult(
        shear=shear,
        r_hat=np.asarray(r_hat),
        n_eff=np.asarray(effective_sample_size(shear)),
        divergences=int(record.divergences),
        gradients=int(record.gradients),
        parameters=middle + offset,
        covariance=square - offset[:, :, None] * offset[:, None, :],
        converged=bool((r_hat < config.largest_r_hat).all()),
    )
    logger.info("nuts: R-hat %s, %d gradients", result.r_hat, result.gradients)
    if not result.converged or result.divergences:
        logger.warning("nuts: R-hat %s, %d divergences", result.r_hat, result.divergences)
    return result


def _digest(target: Target, config: NutsConfig, seed: int) -> str:
    """What a warm-up belongs to. Not the number of draws, nor the mode: that is kept with it."""
    settings = {
        "warmup": config.warmup,
        "chains": config.chains,
        "target_accept": config.target_accept,
        "seed": seed,
        "versions": [jax.__version__, numpyro.__version__],
        "backend": jax.default_backend(),
    }
    digest = hashlib.sha256(json.dumps(settings).encode())
    pixels = target.pixels
    parts = (target.prior, pixels.views, pixels.weight, pixels.data_adu)
    leaves, structure = jax.tree.flatten(parts)
    digest.update(f"{structure} {pixels.sizes} {pixels.profile}".encode())
    for leaf in map(np.asarray, leaves):
        digest.update(f"{leaf.shape} {leaf.dtype}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _save(path: Path, digest: str, kept: tuple[HMCState, Whitening]) -> None:
    buffer = io.BytesIO()
    leaves = {f"leaf_{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(kept))}
    np.savez(buffer, digest=np.array(digest), **leaves)
    write_atomically(path, buffer.getvalue())


def _load(path: Path, digest: str, like: tuple[HMCState, Whitening]):
    """What `_save` has kept, or None if there is nothing of use."""
    leaves, structure = jax.tree.flatten(like)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if str(file["digest"]) != digest:
                logger.warning("%s: belongs to another run; the warm-up starts anew", path)
                return None
            kept = [file[f"leaf_{k}"] for k in range(len(leaves))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s: damaged (%s); the warm-up starts anew", path, error)
        return None
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(kept, leaves, strict=True)):
        logger.warning("%s: of another form; the warm-up starts anew", path)
        return None
    logger.info("%s: goes on after the warm-up", path)
    return jax.tree.unflatten(structure, map(jnp.asarray, kept))
