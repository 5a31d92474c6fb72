"""Checks of the shear: its mean, its pattern about the tiles, the PSF's part in it, and its pulls.

Where the truth is known, the shear is that which is left when the truth is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, stats

from constellation.quality.check import Check, Finding, Limit
from constellation.quality.regression import Fit, ShearData, fit_shear
from constellation.quality.settings import CheckName, QualityConfig
from constellation.quality.subtiles import SubTiles, name_of
from constellation.sphere import Flags, Floats, TangentPlane, unit_vectors
from constellation.tiling import Tiles
from shine.errors import Status

_LEAST_FOR_OUTLIERS = 5
_MEDIAN_CHI2 = 2.0 * np.log(2.0)  # of two degrees of freedom
_CENTRE_RAD = 1e-6  # nearer to its tile's centre than this, a sub-tile has no direction from it

Fitted = Fit | str


@dataclass(frozen=True)
class ShearStatistics:
    """The statistics of the converged sub-tiles; `truth` (n, 2) is NaN where it is not known."""

    subtiles: SubTiles
    truth: Floats
    settings: QualityConfig

    @cached_property
    def has_truth(self) -> bool:
        """Whether the truth of any sub-tile is known."""
        return bool(np.isfinite(self.truth).any())

    @cached_property
    def chosen(self) -> Flags:
        """(n,) those that count: converged, and of known truth if there is any."""
        good = self.subtiles.has_shear & (self.subtiles.status == Status.OK)
        return good & np.isfinite(self.truth).all(axis=1) if self.has_truth else good

    @cached_property
    def data(self) -> ShearData:
        """Their shear, without the truth."""
        return self.data_of(self.chosen)

    def checks(self, tiles: Tiles) -> list[Check]:
        """All of them."""
        return [
            self._outliers(),
            *self._mean_shear(),
            *self._pattern(tiles),
            *self._leakage(),
            *self._pulls(),
        ]

    @cached_property
    def leakage(self) -> Fitted:
        """Additive shear (2), and the slope against the PSF's ellipticity."""
        return self._fit(_with_constant(self._psf[:, :, None]), self.has_psf)

    @cached_property
    def leakage_by_component(self) -> Fitted:
        """Additive shear (2), and the slopes of g1 against e1 and of g2 against e2."""
        return self._fit(_with_constant(self._psf[:, :, None] * np.eye(2)), self.has_psf)

    @cached_property
    def outlier_sigma(self) -> Floats:
        """How far each chosen sub-tile is from the median, in sigma of two dimensions: of its error
        and of the scatter that makes half of them nearer than the median distance.
        """
        residual = self.data.shear - np.median(self.data.shear, axis=0)

        def beyond(variance: float) -> float:
            total = self.data.covariance + variance * np.eye(2)
            return float(np.median(_chi2(residual, total))) - _MEDIAN_CHI2

        most = float((residual**2).sum(axis=1).max())
        variance = optimize.brentq(beyond, 0.0, most) if beyond(0.0) > 0.0 else 0.0
        return np.sqrt(_chi2(residual, self.data.covariance + variance * np.eye(2)))

    @property
    def outlier_limit(self) -> float:
        """What the farthest of n sub-tiles exceeds by chance with the probability of a false alarm.

        A scatter from the median of n distances is as uncertain as one from n squares.
        """
        n = len(self.data)
        return float(np.sqrt(2.0 * stats.f.isf(self.settings.false_alarm / n, 2, n)))

    @cached_property
    def pulls(self) -> Floats:
        """(inferred - true) / error of the chosen sub-tiles, (m, 2)."""
        return self.data.shear / np.sqrt(np.diagonal(self.data.covariance, axis1=1, axis2=2))

    @property
    def _psf(self) -> Floats:
        return np.nan_to_num(self.subtiles.psf)

    @property
    def has_psf(self) -> Flags:
        """(n,) those that count and whose PSF is known."""
        return self.chosen & np.isfinite(self.subtiles.psf).all(axis=1)

    @property
    def of_what(self) -> str:
        """What the shear is."""
        return "residual from the truth" if self.has_truth else "shear"

    def data_of(self, chosen: Flags) -> ShearData:
        """The shear of some sub-tiles, without the truth."""
        return self.subtiles.data(chosen, self.truth if self.has_truth else np.zeros(2))

    def _fit(self, design: Floats, chosen: Flags) -> Fitted:
        return fit_shear(self.data_of(chosen), design[chosen])

    def _outliers(self) -> Check:
        name: CheckName = "shear_outliers"
        meaning = f"sub-tiles whose {self.of_what} is far from all others'"
        n = len(self.data)
        if n < _LEAST_FOR_OUTLIERS:
            return Check.skipped(name, meaning, f"{n} sub-tiles with shear are too few")
        limit = self.outlier_limit
        far = np.flatnonzero(self.outlier_sigma > limit)
        far = far[np.argsort(-self.outlier_sigma[far])]
        keys = self.subtiles.key[self.chosen]
        named = ", ".join(f"{name_of(int(keys[i]))} ({self.outlier_sigma[i]:.1f})" for i in far[:3])
        detail = named or f"largest {self.outlier_sigma.max():.2f} sigma"
        limited = Limit(f"0 beyond {limit:.2f} sigma", len(far) == 0)
        return Check.of(name, meaning, Finding(len(far), None, detail), limited)

    def _mean_shear(self) -> list[Check]:
        n = len(self.subtiles.key)
        fit = self._fit(np.tile(np.eye(2), (n, 1, 1)), self.chosen)
        return [
            self._zero((name, f"mean g{k + 1}, {self.of_what}"), (fit, k), "mean_shear")
            for k, name in enumerate(("mean_shear_1", "mean_shear_2"))
        ]

    def _pattern(self, tiles: Tiles) -> list[Check]:
        twice_phi, has_direction = _directions(self.subtiles, tiles)
        c, s = np.cos(twice_phi), np.sin(twice_phi)
        # g = -(g_t + i g_x) exp(2 i phi), GalSim's signs
        pattern = np.stack([np.stack([-c, s], axis=-1), np.stack([-s, -c], axis=-1)], axis=1)
        fit = self._fit(_with_constant(pattern), self.chosen & has_direction)
        names = ("tangential_shear", "cross_shear")
        return [
            self._zero((name, f"{what} about the tiles' centres"), (fit, 2 + k), "mean_shear")
            for k, (name, what) in enumerate(zip(names, ("tangential", "cross"), strict=True))
        ]

    def _leakage(self) -> list[Check]:
        slope = f"slope of {self.of_what} against PSF ellipticity"
        if not self.has_psf.any():
            reason = "no sub-tile with shear and PSF_E1, PSF_E2"
            names = ("leakage", "leakage_1", "leakage_2")
            return [Check.skipped(name, slope, reason) for name in names]
        return [
            self._zero(("leakage", slope), (self.leakage, 2), "leakage"),
            *(
                self._zero(
                    (name, f"{slope}, component {k + 1}"),
                    (self.leakage_by_component, 2 + k),
                    "leakage",
                )
                for k, name in enumerate(("leakage_1", "leakage_2"))
            ),
        ]

    def _zero(self, named: tuple[CheckName, str], of: tuple[Fitted, int], tolerance: str) -> Check:
        """The check that a coefficient is zero, but for what is tolerated and for chance."""
        (name, meaning), (fit, k) = named, of
        if isinstance(fit, str):
            return Check.skipped(name, meaning, fit)
        tolerated, reach = getattr(self.settings, tolerance), fit.reach(self.settings.false_alarm)
        value, error = fit.value(k), fit.error(k)
        errors = "the scatter of tiles" if fit.by_tile else "the scatter of sub-tiles"
        detail = f"{value / error:+.1f} errors; errors from {errors}, {fit.dof} degrees of freedom"
        text = f"|VALUE| <= {tolerated:g} + {reach:.2f} ERROR"
        limit = Limit(text, abs(value) <= tolerated + reach * error)
        return Check.of(name, meaning, Finding(value, error, detail), limit)

    def _pulls(self) -> list[Check]:
        meanings: dict[CheckName, str] = {
            "pull_mean_1": "mean of (g1 - truth) / error",
            "pull_mean_2": "mean of (g2 - truth) / error",
            "pull_rms": "rms of all pulls, whitened by the covariance",
        }
        if not self.has_truth or not len(self.data):
            reason = "no sub-tile with shear" if self.has_truth else "there is no truth"
            return [Check.skipped(name, meaning, reason) for name, meaning in meanings.items()]
        n, alpha = len(self.data), self.settings.false_alarm
        reach = float(stats.norm.isf(alpha / 2.0))
        checks = []
        for k, name in enumerate(("pull_mean_1", "pull_mean_2")):
            mean, error = self.pulls[:, k].mean(), 1.0 / np.sqrt(n)
            limit = Limit(f"|VALUE| <= {reach:.2f} ERROR", abs(mean) <= reach * error)
            found = Finding(mean, error, f"{n} sub-tiles")
            checks.append(Check.of(name, meanings[name], found, limit))
        return [*checks, self._pull_rms("pull_rms", meanings["pull_rms"])]

    def _pull_rms(self, name: CheckName, meaning: str) -> Check:
        alpha, dof = self.settings.false_alarm, 2 * len(self.data)
        chi2 = float(_chi2(self.data.shear, self.data.covariance).sum())
        low, high = np.sqrt(stats.chi2.ppf([alpha / 2.0, 1.0 - alpha / 2.0], dof) / dof)
        low, high = low * (1.0 - self.settings.pull_rms), high * (1.0 + self.settings.pull_rms)
        rms = np.sqrt(chi2 / dof)
        detail = f"chi2 {chi2:.1f} of {dof}, probability {stats.chi2.sf(chi2, dof):.3g}"
        limit = Limit(f"{low:.3f} to {high:.3f}", bool(low <= rms <= high))
        return Check.of(name, meaning, Finding(rms, 1.0 / np.sqrt(2.0 * dof), detail), limit)


def _with_constant(columns: Floats) -> Floats:
    """A design (n, 2, 2 + p) with a mean shear before the columns (n, 2, p)."""
    return np.concatenate([np.tile(np.eye(2), (len(columns), 1, 1)), columns], axis=-1)


def _chi2(residual: Floats, covariance: Floats) -> Floats:
    return np.einsum("ni,nij,nj->n", residual, np.linalg.inv(covariance), residual)


def _directions(subtiles: SubTiles, tiles: Tiles) -> tuple[Floats, Flags]:
    """Twice the angle, u = west towards v = north, at each sub-tile of the line from the centre of
    its tile (n,), and whether there is such a line.
    """
    place = np.clip(np.searchsorted(tiles.index, subtiles.tile), 0, len(tiles.index) - 1)
    known = tiles.index[place] == subtiles.tile
    ra, dec = np.nan_to_num(subtiles.ra), np.nan_to_num(subtiles.dec)
    here, centre = TangentPlane.at(ra, dec), tiles.centres[place]
    u, v = -(here.east * centre).sum(axis=-1), (here.north * centre).sum(axis=-1)
    apart = np.linalg.norm(unit_vectors(ra, dec) - centre, axis=-1) > _CENTRE_RAD
    finite = np.isfinite(subtiles.ra) & np.isfinite(subtiles.dec)
    return 2.0 * np.arctan2(v, u), known & apart & finite
