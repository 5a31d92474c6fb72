"""Reading a published catalogue: the rows asked for, from the files that can hold them."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix
from pyarrow.dataset import field

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import SHEAR, SOURCES, healpix
from constellation.plan import SubTile
from shine.errors import InputError, Kind

from .fake_catalogue import publish_plainly
from .fake_results import Result, tile_catalogue


@pytest.fixture
def catalogue(tmp_path) -> PublishedCatalogue:
    """Two tiles of 300 sources each, around 0h and 2 degrees apart."""
    results = [
        Result(SubTile(tile, 0, 0), {1000 * tile + n: Kind.GALAXY for n in range(300)})
        for tile in (11, 12)
    ]
    tiles = [tile_catalogue([result], tmp_path / "results") for result in results]
    rng = np.random.default_rng(4)
    places = []
    for tile, (ra, dec) in zip(tiles, ((359.9, -20.0), (1.9, -20.0)), strict=True):
        around = ra + rng.uniform(-0.3, 0.3, 300), dec + rng.uniform(-0.3, 0.3, 300)
        places.append(_placed(tile.sources, around[0] % 360.0, around[1]))
    shear = _joined([tile.shear for tile in tiles])
    return PublishedCatalogue(publish_plainly(tmp_path / "c", shear, _joined(places)))


def test_a_cone_holds_the_sources_within_its_radius_whatever_the_file(catalogue):
    every = catalogue.sources()
    sky = SkyCoord(every["RA"].to_numpy() * u.deg, every["DEC"].to_numpy() * u.deg)
    for centre in ((0.0, -20.0), (359.95, -19.8), (1.0, -20.0), (180.0, 20.0)):
        for radius in (0.05, 0.4, 1.5):
            near = sky.separation(SkyCoord(*centre, unit="deg")).deg <= radius
            found = catalogue.cone(*centre, radius, columns=["OBJECT_ID"])
            expected = every["OBJECT_ID"].to_numpy()[near]
            assert sorted(found["OBJECT_ID"].to_pylist()) == sorted(expected.tolist())
            assert found.column_names == ["OBJECT_ID"]


def test_a_cone_opens_no_file_that_cannot_hold_any(catalogue):
    west, east = catalogue.files["PATH"].to_pylist()
    (catalogue.folder / east).write_bytes(b"not to be read")
    assert catalogue.cone(359.9, -20.0, 0.5).num_rows > 100
    with pytest.raises(InputError, match="sources that cannot be read"):
        catalogue.cone(1.9, -20.0, 0.5)
    assert west != east


def test_files_are_read_one_by_one_and_only_near_a_place(catalogue):
    every = [table["OBJECT_ID"].to_pylist() for table in catalogue.sources_by_file(("OBJECT_ID",))]
    assert [len(ids) for ids in every] == [300, 300]
    together = [object_id for ids in every for object_id in ids]
    assert together == catalogue.sources(["OBJECT_ID"])["OBJECT_ID"].to_pylist()
    [near] = catalogue.sources_by_file(["OBJECT_ID"], (359.9, -20.0, 0.5))
    assert near["OBJECT_ID"].to_pylist() == every[0]


def test_columns_and_conditions_are_those_asked_for(catalogue):
    assert catalogue.sources().schema.equals(SOURCES)
    found = catalogue.sources(["OBJECT_ID"], field("OBJECT_ID") < 11_010)
    assert found.column_names == ["OBJECT_ID"] and found.num_rows == 10
    assert catalogue.shear.schema.equals(SHEAR)


def test_healpix_is_the_index_at_order_29(catalogue):
    ra, dec = np.array([10.0, 359.0]), np.array([-45.0, 89.0])
    sky = HEALPix(2**29, order="nested")
    expected = sky.lonlat_to_healpix(ra * u.deg, dec * u.deg)
    assert healpix(ra, dec).tolist() == expected.tolist()


def test_a_folder_that_is_no_catalogue_is_named(tmp_path):
    with pytest.raises(InputError, match=r"shear\.parquet: found no readable table"):
        _ = PublishedCatalogue(tmp_path).shear


def _placed(sources, ra, dec):
    for name, values in (("RA", ra), ("DEC", dec)):
        sources = sources.set_column(sources.schema.get_field_index(name), name, pa.array(values))
    return sources


def _joined(tables):
    return pa.concat_tables([table.replace_schema_metadata() for table in tables])
