"""Published catalogues of sources at given places, for queries of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from constellation.catalogue.published import PublishedCatalogue
from constellation.plan import SubTile
from shine.errors import Kind

from .fake_catalogue import publish_plainly
from .fake_results import Result, tile_catalogue

Places = tuple[NDArray, NDArray]  # RA, DEC in degrees


def sources_at(folder: Path, places: Mapping[int, Places]) -> PublishedCatalogue:
    """Publish tiles, each with one sub-tile and a source at each of its places."""
    tiles, sources = [], []
    for tile, (ra, dec) in places.items():
        kinds = {1000 * tile + n: Kind.GALAXY for n in range(len(ra))}
        made = tile_catalogue([Result(SubTile(tile, 0, 0), kinds)], folder / "results")
        tiles.append(made.shear.replace_schema_metadata())
        table = made.sources.replace_schema_metadata()
        for name, values in (("RA", ra), ("DEC", dec)):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array(np.asarray(values, float)))
        sources.append(table)
    shear = pa.concat_tables(tiles)
    return PublishedCatalogue(
        publish_plainly(folder / "catalogue", shear, pa.concat_tables(sources))
    )


def around(ra: float, dec: float, reach_deg: float, n: int, seed: int) -> Places:
    """Places spread over a cap, evenly enough, wherever on the sky it is."""
    rng = np.random.default_rng(seed)
    distance = reach_deg * np.sqrt(rng.uniform(size=n))
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    centre = SkyCoord(ra, dec, unit="deg")
    placed = centre.directional_offset_by(angle * units.rad, distance * units.deg)
    return placed.ra.deg, placed.dec.deg
