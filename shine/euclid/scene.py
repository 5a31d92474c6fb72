"""From a manifest to an `ExposureSet`: all sources of the sub-tile, all quadrants that saw them."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shine.blends import Blends, enclosing_circle, find_blends
from shine.errors import InputError, Kind, SourceFlag
from shine.euclid import memory
from shine.euclid.catalog import SourceTable, load_sources
from shine.euclid.config import EuclidConfig
from shine.euclid.looks import Look, Looker
from shine.euclid.wcs import unit_vectors
from shine.manifest import Manifest, read_manifest
from shine.prior_utils import CatalogueValues, SourcePrior
from shine.profiles import PROFILES
from shine.scene import Scene
from shine.scene_builder import (
    ModelledSources,
    QuadrantView,
    SceneBuilder,
    bucket,
    choose_stamps,
)

logger = logging.getLogger(__name__)

# A source's share in a blend: a disc of so many half-light radii, the PSF's added in quadrature.
BLEND_RADIUS, PSF_RADIUS_ARCSEC = 2.0, 0.15
WIDEST_BLEND_ARCSEC = 8.0  # must fit on the largest stamp with its members' light
ARCSEC_PER_RADIAN = np.rad2deg(1.0) * 3600.0


@dataclass(frozen=True)
class Display:
    """One quadrant as it was read, for people to look at."""

    name: str
    image_adu: np.ndarray  # (ny, nx)
    weight: np.ndarray  # (ny, nx)
    place: np.ndarray  # (ny, nx) of each pixel in the scene's vector; negative where not modelled
    core_xy: np.ndarray  # (k, 2) pixel positions of the core sources


@dataclass(frozen=True)
class ExposureSet:
    """The pixels, geometry and priors of one sub-tile, ready for inference.

    `scene` is None when there is nothing to infer: no quadrant, or no core galaxy with pixels.
    """

    manifest: Manifest
    sources: SourceTable
    blends: Blends
    scene: Scene | None
    prior: SourcePrior | None
    n_exposures: np.ndarray  # (n,) exposures with a usable pixel of each source
    psf_moments: np.ndarray  # (n, 2, 2) of the PSF on the sky, arcsec²; NaN where unknown
    n_quadrants_used: int
    digests: dict[str, str]  # quadrant -> digest of what was read
    left_out: dict[str, dict[str, int]]  # sources by cut, pixels of all quadrants by reason
    display: Display | None

    @property
    def used(self) -> np.ndarray:
        """(n,) the core galaxies whose shapes carry the sub-tile's shear."""
        return (self.sources.kind == Kind.GALAXY) & self.sources.is_core & (self.n_exposures > 0)


def load(manifest: Manifest | Path | str, config: EuclidConfig | None = None) -> ExposureSet:
    """Read what a manifest names.

    Raises `shine.errors.InputError` naming the file and the item that is missing or wrong.
    """
    config = config or EuclidConfig()
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(manifest)
    sources = load_sources(manifest, config.gal.selection)
    loader = _Loader(manifest, sources, config)
    for look in loader.looker.look_at_all(manifest.quadrants):
        loader.add(look)
    return loader.finish()


class _Loader:
    """Takes quadrants one by one and keeps what the inference needs of them."""

    def __init__(self, manifest: Manifest, sources: SourceTable, config: EuclidConfig) -> None:
        self._manifest = manifest
        self._sources = sources
        self._config = config
        self._blends, centres = _find_blends(sources)
        self.looker = Looker(sources, self._blends, centres, config.inference)
        self._without_psf = np.zeros(len(sources.object_id), bool)
        self._builder: SceneBuilder | None = None
        self._digests: dict[str, str] = {}
        self._n_masked: Counter[str] = Counter()
        self._display: Display | None = None
        self._n_used = 0

    def add(self, look: Look) -> None:
        """Take over the pixels around the sources."""
        quadrant = look.quadrant
        key = f"{quadrant.exposure}/{quadrant.name}"
        if key in self._digests:
            raise InputError(
                f"quadrant {key}: the manifest lists it twice, expected once, for its pixels would "
                "count twice. Remove one of the entries."
            )
        self._digests[key] = quadrant.digest
        self._n_masked.update(quadrant.n_masked)
        logger.info("%s: %d sources, masked pixels %s", key, len(look.rows), quadrant.n_masked)
        if len(look.without_psf):
            self._without_psf |= np.isin(self._blends.blend, look.without_psf)
            logger.warning(
                "%s: %d of 81 stamps of %s are not finite or have no positive sum: %d blends near "
                "them are not fitted to this quadrant",
                key,
                (~quadrant.psf.usable).sum(),
                quadrant.psf.where,
                len(look.without_psf),
            )
        if look.view is None:
            return
        if self._builder is None:
            self._builder = SceneBuilder(self._modelled(look.view))
        place = self._builder.add_quadrant(quadrant.image_adu, look.weight, look.view)
        if (place >= 0).any():
            self._n_used += 1
            self._keep_for_display(look, place)

    def finish(self) -> ExposureSet:
        n = len(self._sources.object_id)
        self._sources.flags[self._without_psf] |= SourceFlag.BAD_PSF
        seen, psf_moments = np.zeros(n, np.int16), np.full((n, 2, 2), np.nan)
        if self._builder is not None:
            seen = self._builder.n_exposures[self._blends.blend]
            psf_moments = self._builder.psf_moments[self._blends.blend]
        exposures = ExposureSet(
            manifest=self._manifest,
            sources=self._sources,
            blends=self._blends,
            scene=None,
            prior=None,
            n_exposures=seen,
            psf_moments=psf_moments,
            n_quadrants_used=self._n_used,
            digests=self._digests,
            left_out={"sources": self._sources.cuts, "pixels": dict(self._n_masked)},
            display=self._display,
        )
        if not exposures.used.any():
            return exposures
        prior = _prior(self._sources, exposures.used, bucket(n), self._config)
        return replace(exposures, scene=self._builder.build(), prior=prior)

    def _modelled(self, view: QuadrantView) -> ModelledSources:
        """What is drawn where, on stamps that keep all but a little of each source's light.

        The radii of profile and PSF add in quadrature; the pixel scale and PSF are those of the
        first quadrant, whose spread over the survey (a few per cent) matters less than the steps
        between stamp sizes.
        """
        sources, gal = self._sources, self._config.gal
        outside = self._config.inference.stamp_light_outside
        profile = gal.profile.type
        index = np.full(len(sources.object_id), getattr(gal.profile, "index", 0.0))
        scale = np.sqrt(np.abs(np.linalg.det(view.jacobian))).mean()
        light = PROFILES[profile].light_radius(outside, index) * _half_light_radii(sources)
        psf_radius = _psf_radius(view.psf, view.psf_margin, outside) / view.psf_oversampling
        radius = np.hypot(light / scale, psf_radius)
        position = _positions_arcsec(sources) / scale
        around = [enclosing_circle(position[rows], radius[rows])[1] for rows in self._blends.rows()]
        stamp_size, slots = choose_stamps(np.array(around), self._blends.slots)
        memory.require(
            memory.estimate_mb(self._manifest, stamp_size, view.psf_oversampling),
            self._manifest.stem,
        )
        return ModelledSources(
            members=self._blends.members,
            stamp_size=stamp_size,
            slots=slots,
            profile=profile,
            profile_index=index,
        )

    def _keep_for_display(self, look: Look, place: np.ndarray) -> None:
        """Keep the quadrant that sees most core sources."""
        height, width = place.shape
        inside = (look.x > 0) & (look.x < width) & (look.y > 0) & (look.y < height)
        inside &= self._sources.is_core[look.rows]
        if self._display is None or inside.sum() > len(self._display.core_xy):
            self._display = Display(
                name=f"{look.quadrant.exposure} {look.quadrant.name}",
                image_adu=look.quadrant.image_adu,
                weight=look.weight,
                place=place,
                core_xy=np.column_stack([look.x[inside], look.y[inside]]),
            )


def combined_digest(digests: dict[str, str]) -> str:
    """One digest of all quadrants' digests, whatever their order."""
    text = "\n".join(f"{key} {digests[key]}" for key in sorted(digests))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _half_light_radii(sources: SourceTable) -> np.ndarray:
    return np.where(sources.kind == Kind.STAR, 0.0, sources.hlr_arcsec)


def _positions_arcsec(sources: SourceTable) -> np.ndarray:
    """Places (n, 3) on a sphere whose radius makes an arcsec one unit long."""
    return unit_vectors(sources.ra, sources.dec) * ARCSEC_PER_RADIAN


def _find_blends(sources: SourceTable) -> tuple[Blends, np.ndarray]:
    """Blends of sources whose light overlaps within the resolution, and their centres (ra, dec)."""
    radius = BLEND_RADIUS * np.hypot(_half_light_radii(sources), PSF_RADIUS_ARCSEC)
    position = _positions_arcsec(sources)
    blends = find_blends(position, radius, WIDEST_BLEND_ARCSEC)
    centres = np.empty((len(blends.members), 2))
    for centre, rows in zip(centres, blends.rows(), strict=True):
        if len(rows) == 1:  # exactly where its source is
            centre[:] = sources.ra[rows[0]], sources.dec[rows[0]]
        else:
            x, y, z = enclosing_circle(position[rows], radius[rows])[0]
            centre[:] = np.degrees(
                [np.arctan2(y, x) % (2.0 * np.pi), np.arctan2(z, np.hypot(x, y))]
            )
    return blends, centres


def _psf_radius(psf: np.ndarray, margin: int, outside: float) -> float:
    """Radius in samples that holds all but `outside` of the mean PSF's light.

    The margin that a model fills does not count: its faint light would double the stamps of small
    galaxies, and without it their shears are the same to 1e-5.
    """
    stamp = psf.mean(axis=0)
    stamp = stamp[margin : len(stamp) - margin, margin : len(stamp) - margin]
    half = stamp.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    order = np.argsort(np.hypot(x, y), axis=None)
    light = np.cumsum(stamp.ravel()[order])
    return np.hypot(x, y).ravel()[order][np.searchsorted(light, (1 - outside) * light[-1])]


def _prior(
    sources: SourceTable, used: np.ndarray, n_rows: int, config: EuclidConfig
) -> SourcePrior:
    """Priors of the sources, padded with unlensed stars that no pixel sees.

    Only the core's galaxies inform the shear: each galaxy of the survey then counts in exactly one
    sub-tile, and the results of neighbours are independent but for shared blends.
    """

    def pad(values: np.ndarray, fill) -> np.ndarray:
        return np.concatenate([values, np.full(n_rows - len(values), fill, values.dtype)])

    return SourcePrior.build(
        config.gal.priors,
        CatalogueValues(
            flux_ujy=pad(sources.flux_ujy, 1.0),
            hlr_arcsec=pad(sources.hlr_arcsec, 1.0),
            lensed=pad(used, False),
            point=pad(sources.kind == Kind.STAR, True),
        ),
    )
