"""Full scenes: what their members share, what can go dark in them, and how they are drawn."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from constellation.mock_survey.catalogue import build_catalogue
from constellation.mock_survey.detector import observe
from constellation.mock_survey.flags import Flag
from constellation.mock_survey.population import draw_population
from constellation.mock_survey.scene import Scene
from constellation.mock_survey.sky import deproject
from constellation.mock_survey.write import write_survey
from constellation.validation.drawing.field import FieldScene
from constellation.validation.drawing.scene import TILE
from constellation.validation.drawing.settings import FieldSettings


@pytest.fixture(scope="module")
def field():
    return FieldScene(FieldSettings(width_arcmin=0.8), seed=3, block=0)


def test_every_exposure_sees_the_whole_field(field):
    half = 0.4 / 60.0
    xi, eta = half * np.array([[-1, 1, 1, -1, 0], [-1, -1, 1, 1, 0]])
    ra, dec = deproject(xi, eta, TILE.ra, TILE.dec)
    assert len(field.frames) == 4
    assert len({frame.roll_deg for frame in field.frames}) == 4
    for frame in field.frames:
        x, y = frame.to_pixel(ra, dec)
        assert min(x.min(), y.min()) > 0.0
        assert x.max() < frame.shape[1] and y.max() < frame.shape[0]
    assert list(field.in_core(ra, dec)) == [False, False, False, False, True]


def test_members_of_a_field_differ_by_shear_and_turn_alone(field):
    one, turned = (draw_population(field.survey((0.02, 0.02), turn)) for turn in (False, True))
    opposite = draw_population(field.survey((-0.02, -0.02), False))
    for name in ("ra", "dec", "flux_ujy", "hlr_arcsec", "is_star"):
        np.testing.assert_array_equal(getattr(one, name), getattr(turned, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(opposite, name))
    assert np.abs(one.e1).max() > 0.1
    np.testing.assert_array_equal(one.e1 + 1j * one.e2, -(turned.e1 + 1j * turned.e2))
    np.testing.assert_array_equal(one.g1, -opposite.g1)


def test_dark_sources_are_gone_and_nothing_else_is_changed(field):
    def scene(*dark: str) -> FieldScene:
        return FieldScene(FieldSettings(width_arcmin=2.0, dark=dark), seed=3, block=0)

    bright = scene()
    survey = bright.survey((0.02, 0.02), False)
    whole = bright.shining(survey)
    columns, _, listed = build_catalogue(bright.reference, bright.listable, bright.frames)
    assert (whole.flux_ujy > 0.0).all()
    gone = {}
    for kind in ("faint", "hidden"):
        one = scene(kind)
        light = one.shining(survey)
        np.testing.assert_array_equal(light.ra, whole.ra)
        gone[kind] = light.flux_ujy == 0.0
        np.testing.assert_array_equal(light.flux_ujy[~gone[kind]], whole.flux_ujy[~gone[kind]])
        assert gone[kind].any()
        there, _, _ = build_catalogue(one.reference, one.listable, one.frames)
        np.testing.assert_array_equal(there["OBJECT_ID"], columns["OBJECT_ID"])
    # all that the catalogue does not list is either too faint or taken for another's part
    np.testing.assert_array_equal(gone["faint"] | gone["hidden"], ~listed)
    assert not (gone["faint"] & gone["hidden"]).any()
    assert np.median(whole.flux_ujy[gone["hidden"]]) > np.median(whole.flux_ujy[gone["faint"]])


def test_what_is_drawn_can_be_given(tmp_path):
    """Sources of no light leave sky and noise alone."""
    scene = FieldScene(FieldSettings(width_arcmin=0.5), seed=3, block=0)
    survey = scene.survey((0.0, 0.0), False)
    survey = survey.model_copy(update={"exposures": survey.exposures[:1]})
    sources = draw_population(survey)
    nothing = replace(sources, flux_ujy=np.zeros(len(sources)))
    dark = write_survey(survey, tmp_path / "dark", workers=1, sources=nothing)
    light = write_survey(survey, tmp_path / "light", workers=1)
    with fits.open(dark.frames[0]) as one, fits.open(light.frames[0]) as other:
        sky = one[1].data - other[1].data
        assert (one[3].data & Flag.OBJECTS == 0).all()
        assert (other[3].data & Flag.OBJECTS > 0).any()
    assert np.nanmin(sky) < -10.0  # the light
    assert np.nanmedian(np.abs(sky)) == 0.0


def test_fields_have_the_same_noise_whatever_the_light(field):
    survey, frame = field.survey((0.02, 0.02), False), field.frames[0]
    stars = np.zeros(frame.shape, np.float32)
    units = []
    for level in (0.0, 30.0):
        light = np.full(frame.shape, level, np.float32)
        image = observe(survey, frame, Scene(light, stars))
        good = image.flg & 1 == 0
        units.append(((image.sci - image.bkg - light) / image.rms, good))
    good = units[0][1] & units[1][1]
    one, other = units[0][0][good], units[1][0][good]
    assert one.std() == pytest.approx(1.0, rel=0.01)
    assert np.corrcoef(one, other)[0, 1] > 0.995  # but for the share of the read noise
