"""What each detector quadrant sees of a sub-tile's sources."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from shine.blends import Blends
from shine.euclid.catalog import SourceTable
from shine.euclid.config import InferenceConfig
from shine.euclid.data_loader import Quadrant, load_quadrant
from shine.manifest import QuadrantFiles
from shine.scene_builder import QuadrantView
from shine.stamps import STAMP_SIZES

READERS = 2  # quadrants looked at at a time, which takes up to 0.3 GB for each


@dataclass(frozen=True)
class Look:
    """One quadrant, and what of it concerns the sources: `view` is None if nothing does."""

    quadrant: Quadrant
    rows: np.ndarray  # (k,) sources near it
    x: np.ndarray  # (k,) their pixel positions
    y: np.ndarray
    weight: np.ndarray  # (ny, nx) with masks
    without_psf: np.ndarray  # blends that it could see, had it a PSF there
    view: QuadrantView | None


@dataclass(frozen=True)
class Looker:
    """Reads quadrants and finds what they see."""

    sources: SourceTable
    blends: Blends
    centres: np.ndarray  # (b, 2) ra, dec in degrees of each blend
    settings: InferenceConfig

    def look(self, files: QuadrantFiles) -> Look:
        """One quadrant, for several threads at a time; raises `InputError` as `load_quadrant`."""
        sources, settings = self.sources, self.settings
        quadrant = load_quadrant(files, settings.bad_flags, settings.background)
        x, y = quadrant.wcs.to_pixel(sources.ra, sources.dec)
        height, width = quadrant.image_adu.shape
        reach = STAMP_SIZES[-1] // 2
        near = (x > -reach) & (x < width + reach) & (y > -reach) & (y < height + reach)
        rows = np.flatnonzero(near)
        blends = np.unique(self.blends.blend[rows])
        blend_x, blend_y = quadrant.wcs.to_pixel(*self.centres[blends].T)
        psf = quadrant.psf.arranged(settings.psf)
        known = psf.knows(blend_x, blend_y)
        seen = partial(Look, quadrant, rows, x[rows], y[rows])
        if not known.any():
            return seen(quadrant.weight, blends, None)
        blend_x, blend_y = blend_x[known], blend_y[known]
        grid = psf.modelled(settings.psf, quadrant.wcs.pixel_arcsec(), blend_x, blend_y)
        jacobian = quadrant.wcs.jacobian(blend_x, blend_y)
        view = QuadrantView(
            blend=blends[known],
            x=blend_x,
            y=blend_y,
            source_xy=np.column_stack([x, y]),
            jacobian=jacobian,
            psf=grid.at(blend_x, blend_y),
            psf_moments=jacobian @ grid.moments_at(blend_x, blend_y) @ jacobian.mT,
            psf_oversampling=grid.oversampling,
            psf_margin=grid.margin,
            adu_per_ujy=quadrant.adu_per_ujy,
            exposure=quadrant.exposure,
        )
        return seen(sources.mask.applied(quadrant.weight, quadrant.wcs), blends[~known], view)

    def look_at_all(self, files: Iterable[QuadrantFiles]) -> Iterator[Look]:
        """The quadrants in order, the next ones being read while one is worked on."""
        with ThreadPoolExecutor(READERS) as readers:
            upcoming = deque()
            for item in files:
                upcoming.append(readers.submit(self.look, item))
                if len(upcoming) > READERS:
                    yield upcoming.popleft().result()
            while upcoming:
                yield upcoming.popleft().result()
