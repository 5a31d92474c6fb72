"""The joint mode of all sources and the shear, by damped Newton steps, with Laplace errors.

Blends step by themselves (`shine.newton`): each has its own damping and takes a step or leaves it
by what the step brings to its own pixels (Levenberg 1944, Marquardt 1963; Nocedal & Wright 2006,
ch. 10), neighbours staying as the last sweep left them; a blend that has converged is left out of
further sweeps. After each sweep the shear takes the Newton step of the joint posterior: its
curvature is the Schur complement, in which every blend answers the shear.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from shine import newton
from shine.blocks import in_blocks, in_parallel
from shine.fit import Family, Fit
from shine.inference_config import SolverConfig
from shine.prior_utils import SourcePrior, to_disc
from shine.render import Derivatives
from shine.scene import Batch, Scene, batches, empty_batch, gather, subtract

_LONGEST_SHEAR_STEP = 0.1
# Gain over what the damped step promised: below the first a blend stays, damping grows below the
# second and shrinks above the third
_LEAST_RATIO, _POOR_RATIO, _GOOD_RATIO = 0.05, 0.25, 0.75
_TRUSTED_GAIN = 1e-4
_DAMPING_START, _DAMPING_LEAST, _DAMPING_FIRM, _DAMPING_MOST = 1e-2, 1e-4, 0.3, 1e4
UNSETTLED_SHARE = 0.02  # of the blends; those are flagged, and one does not hold up thousands


def find_mode(scene: Scene, prior: SourcePrior, config: SolverConfig) -> Fit:
    """Maximise the posterior of all sources and the shear.

    The shear stays at zero if the prior is that of samples (`SourcePrior.in_coordinates`), to which
    it means nothing. Check `Fit.converged`: it is False when `config.max_iterations` sweeps were
    not enough.
    """
    return Search(scene, prior, config).run()


class Search:
    """The state of a fit between sweeps."""

    def __init__(self, scene: Scene, prior: SourcePrior, config: SolverConfig) -> None:
        b = len(scene.members)
        self.scene, self.config = scene, config
        self.seen = np.zeros(b, bool)
        slots: dict[int, list[np.ndarray]] = {}
        for tier in scene.tiers:
            self.seen[tier.blend] = True
            slots.setdefault(tier.frame.centre.shape[1], []).append(tier.blend)
        families = []
        for c, parts in sorted(slots.items()):
            blend = np.sort(np.concatenate(parts))
            families.append(Family.of(blend, scene.members[blend, :c]))
        shown = scene.members[self.seen]
        self.prior = prior.lensing_only(shown[shown >= 0])
        self.fit = Fit(
            z=np.array(prior.start),
            shear_t=np.zeros(2, np.float32),
            shear_curvature=np.eye(2),
            residual_adu=_copied(scene.data_adu),
            expected=np.where(self.seen, np.inf, 0.0),
            families=families,
        )
        self.damping = np.full(b, _DAMPING_START, np.float32)
        self.fitted_t = np.zeros((b, 2), np.float32)  # the shear that each blend was fitted for
        self.shear_curvature = np.zeros((b, 2, 2))  # what each blend tells of the shear
        self.count = (scene.members >= 0).sum(axis=1)

    def run(self) -> Fit:
        fit, config = self.fit, self.config
        enough = 0.5 * config.source_tolerance**2
        observed = self._observed(fit.z)
        self._compare(self.seen, without_light(observed), observed)
        active = self.seen.copy()
        for _ in range(config.max_iterations):
            rejected = self._sweep(active)
            self._move_shear()
            active = self.seen & (np.maximum(fit.expected, self._owed()) > enough)
            history = fit.history
            history.shear_move.append(float(fit.shear_move))
            history.moving.append(int(self.count[active].sum()))
            history.rejected.append(rejected)
            history.expected.append(float(fit.expected.sum()))
            settled = active.sum() <= UNSETTLED_SHARE * self.seen.sum()
            fit.converged = bool(settled and fit.shear_move < config.shear_tolerance)
            if fit.converged:
                break
        fit.z = self._answered(fit.shear_t - self.fitted_t)
        return fit

    def _sweep(self, active: np.ndarray) -> int:
        """One step of every active blend; returns how many sources stayed where they were."""
        fit = self.fit
        self._follow_shear(active)
        observed = self._observed(fit.z)
        evidence = self._measure(active, observed)
        trial, prior_gain, hoped = fit.z.copy(), np.zeros(len(active)), np.zeros(len(active))
        for family, found in zip(fit.families, evidence, strict=True):
            some = np.flatnonzero(active[family.blend])
            if not len(some):
                continue
            blend, source = family.blend[some], family.source[some]
            proposal = self._propose(source, Derivatives(*(part[some] for part in found)), blend)
            trial[source[source >= 0]] = proposal.trial[source >= 0]
            prior_gain[blend], hoped[blend] = proposal.prior_gain, proposal.hoped
            fit.expected[blend] = proposal.expected
            family.gauss_newton[some] = proposal.gauss_newton
            family.hessian[some] = proposal.hessian
            family.response[some] = proposal.response
            self.shear_curvature[blend] = proposal.shear_curvature
        self.fitted_t[active] = fit.shear_t

        def better(blend: np.ndarray, rise: np.ndarray) -> np.ndarray:
            """Whether a blend takes its step; its damping follows what the step brought."""
            gain = rise + prior_gain[blend]
            # A gain that drowns in rounding says nothing; so small a step is trusted.
            small = hoped[blend] < _TRUSTED_GAIN
            ratio = np.where(small, 1.0, gain / np.maximum(hoped[blend], _TRUSTED_GAIN))
            damping = self.damping[blend]
            firmer = np.clip(10.0 * damping, _DAMPING_FIRM, _DAMPING_MOST)
            looser = np.maximum(0.1 * damping, _DAMPING_LEAST)
            self.damping[blend] = np.where(
                ratio < _POOR_RATIO, firmer, np.where(ratio > _GOOD_RATIO, looser, damping)
            )
            return ratio > _LEAST_RATIO

        accepted = self._compare(active, observed, self._observed(trial), better)
        taken = np.flatnonzero(accepted)
        rows = self.scene.members[taken]
        rows = rows[rows >= 0]
        fit.z[rows] = trial[rows]
        return int(self.count[active].sum() - self.count[taken].sum())

    def _measure(self, active: np.ndarray, observed: np.ndarray) -> list[Derivatives]:
        """What the pixels say of each family's blends; nothing of those that are not active."""
        families = self.fit.families
        evidence = [
            Derivatives(
                np.zeros((len(f.blend), f.source.shape[1], 6, f.source.shape[1], 6), np.float32),
                np.zeros((*f.source.shape, 6), np.float32),
                np.zeros((*f.source.shape, 6, 6), np.float32),
            )
            for f in families
        ]
        slots = [f.source.shape[1] for f in families]

        def measure(batch: Batch) -> Derivatives:
            chunk = gather(self.scene, self.fit.residual_adu, batch)
            return newton.measure(self.scene.profile, chunk, observed[batch.source])

        for batch, found in self._in_parallel(measure, active):
            k = slots.index(batch.source.shape[1])
            real = batch.blend >= 0
            row = np.searchsorted(families[k].blend, batch.blend[real])
            for whole, part in zip(evidence[k], jax.device_get(found), strict=True):
                whole[row] = part[real]
        return evidence

    def _propose(self, source: np.ndarray, found: Derivatives, blend: np.ndarray):
        """Steps of blends with the sources (b, c), of which the pixels say what they do."""
        prior, shear_t = self.prior.rows(source.ravel()), self.fit.shear_t
        z = np.where(source[..., None] >= 0, self.fit.z[source], 0.0)
        terms = in_blocks(
            newton.prior_terms, (prior, z.reshape(-1, 6), found.pull.reshape(-1, 6)), shear_t
        )

        def prior_energy(z: np.ndarray) -> np.ndarray:
            residual = in_blocks(_residual, (prior, z.reshape(-1, 6).astype(np.float32)), shear_t)
            return 0.5 * np.sum(residual.astype(float).reshape(len(source), -1) ** 2, axis=1)

        terms = newton.PriorTerms(*(a.reshape(*source.shape, *a.shape[1:]) for a in terms))
        return newton.propose(terms, found, z, self.damping[blend], prior_energy)

    def _compare(
        self, chosen: np.ndarray, before: np.ndarray, after: np.ndarray, better=None
    ) -> np.ndarray:
        """Draw blends anew, and take the change from the residual where it is for the better.

        `better` judges by the rise of the log likelihood; without it every change is taken.
        Returns which blends changed.
        """
        scene, changed = self.scene, np.zeros(len(chosen), bool)

        def compare(batch: Batch):
            chunk = gather(scene, self.fit.residual_adu, batch)
            return newton.compare(scene.profile, chunk, before[batch.source], after[batch.source])

        updated = _copied(self.fit.residual_adu)
        for batch, (rise, change) in self._in_parallel(compare, chosen):
            real = batch.blend >= 0
            taken = np.ones(len(real), bool)
            if better is not None:
                taken[real] = better(batch.blend[real], np.asarray(rise)[real])
            changed[batch.blend[real]] = taken[real]
            updated = subtract(scene, updated, batch, (change, taken[batch.slot]))
        self.fit.residual_adu = updated
        return changed

    def _in_parallel(self, work: Callable, chosen: np.ndarray) -> Iterator[tuple[Batch, Any]]:
        """Work on the chosen blends' chunks, all with the same residual; results come in order."""
        return in_parallel(work, list(batches(self.scene, chosen)))

    def _observed(self, z: np.ndarray) -> np.ndarray:
        return in_blocks(_observe, (self.prior, z))

    def _move_shear(self) -> None:
        """The Newton step of the shear, each blend answering it."""
        fit = self.fit
        if self.prior.in_coordinates:
            fit.shear_move = 0.0
            return
        z = self._answered(fit.shear_t - self.fitted_t)
        force, own = jax.device_get(_shear_force(self.prior, z, fit.shear_t))
        fit.shear_curvature = self.shear_curvature[self.seen].sum(axis=0) + own
        move = np.linalg.solve(fit.shear_curvature, np.asarray(force, float))
        fit.shear_move = float(np.sqrt(move @ fit.shear_curvature @ move))
        move /= max(1.0, np.abs(move).max() / _LONGEST_SHEAR_STEP)
        fit.shear_t = (fit.shear_t + move).astype(np.float32)

    def _owed(self) -> np.ndarray:
        """What each blend would gain by following the shear since it was fitted."""
        owed = np.zeros(len(self.seen))
        moved = self.fit.shear_t - self.fitted_t
        for family in self.fit.families:
            step = np.einsum("big,bg->bi", family.response, moved[family.blend])
            owed[family.blend] = 0.5 * np.einsum("bi,bij,bj->b", step, family.gauss_newton, step)
        return owed

    def _follow_shear(self, active: np.ndarray) -> None:
        """Let the active blends answer the shear before they are looked at again."""
        moved = (self.fit.shear_t - self.fitted_t) * active[:, None]
        if not moved.any():
            return
        before, z = self._observed(self.fit.z), self._answered(moved)
        self._compare(active & moved.any(axis=1), before, self._observed(z))
        self.fit.z = z

    def _answered(self, moved: np.ndarray) -> np.ndarray:
        """The sources once their blends have followed a move (b, 2) of the shear."""
        z = self.fit.z.copy()
        for family in self.fit.families:
            step = np.einsum("big,bg->bi", family.response, moved[family.blend])
            there = family.source >= 0
            z[family.source[there]] -= step.reshape(*there.shape, 6)[there]
        return z


def warm_up(scene: Scene, sampling: bool) -> None:
    """Compile what a fit of this scene runs, several programs at a time, on empty chunks."""

    def compile_tier(k: int) -> None:
        batch = empty_batch(scene, k)
        residual = _copied(scene.data_adu)
        chunk = gather(scene, residual, batch)
        observed = np.zeros((*batch.source.shape, 6), np.float32)
        newton.measure(scene.profile, chunk, observed)
        _, change = newton.compare(scene.profile, chunk, observed, observed)
        nothing = np.zeros(len(batch.slot), bool)
        subtract(scene, residual, batch, (change, nothing))
        if sampling:
            many = np.zeros((len(observed), newton.DRAWS, *observed.shape[1:]), np.float32)
            newton.compare_many(scene.profile, chunk, observed, many)

    for _ in in_parallel(compile_tier, list(range(len(scene.tiers)))):
        pass


def _copied(pixels: Array) -> Array:
    """Bound to the device, as what programs return is: else each would be compiled for both."""
    return jax.device_put(pixels, jax.devices()[0], may_alias=False)


def without_light(observed: np.ndarray) -> np.ndarray:
    return observed * np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)


@jax.jit
def _residual(prior: SourcePrior, z: Array, shear_t: Array) -> Array:
    return prior.residual(z, to_disc(shear_t))


@jax.jit
def _observe(prior: SourcePrior, z: Array) -> Array:
    return prior.observed(z)


@jax.jit
def _shear_force(prior: SourcePrior, z: Array, shear_t: Array) -> tuple[Array, Array]:
    """Gradient of the log posterior by the shear, and the curvature of the shear's own prior."""

    def own(t: Array) -> Array:
        return to_disc(t) / prior.shear_sigma

    def energy(t: Array) -> Array:
        return 0.5 * jnp.sum(prior.residual(z, to_disc(t)) ** 2) + 0.5 * jnp.sum(own(t) ** 2)

    slope = jax.jacfwd(own)(shear_t)
    return -jax.grad(energy)(shear_t), slope.T @ slope
