"""Other codes on the validation's images: conventions, noise, influences and the table."""

import json
import sys

import numpy as np
import pytest

from constellation.validation.analysis import measure
from constellation.validation.asking import shears
from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.scene import GridScene
from constellation.validation.outcomes import outcomes
from constellation.validation.peers.estimate import Shapes
from constellation.validation.peers.run import run_peers
from constellation.validation.peers.told import Told
from constellation.validation.records import Answer, Block
from constellation.validation.report import Report, write_report
from constellation.validation.side_by_side import read_peers, side_by_side
from constellation.validation.tables import markdown
from shine.errors import ConfigurationError

MISSING = "the group `peers` is not installed; `make validate-peers` installs it"


def case_of(*peers, **scene):
    settings = {"name": "one", "level": 1, "shows": "one kind", "blocks": 2, "scene": scene}
    settings["peer_blocks"] = 2
    return Case.model_validate(settings | {"peers": peers})


def test_anacal_finds_the_shear_of_noiseless_images():
    """Roll, parity and the distortion that the pixels' axes lose; m was -0.8e-4, c 4e-7."""
    pytest.importorskip("anacal", reason=MISSING)
    case = case_of("anacal", cells=16, noise=False, galaxies={"snr": 1000})
    blocks = [
        run_peers(case, GridScene(case.scene, 1, number), shears(case.scene.shear, number))
        for number in range(2)
    ]
    for method in ("anacal", "anacal_catalogue"):
        measured = measure(blocks, method)
        assert np.abs(measured.values[:, :2]).max() < 5e-4
        assert np.abs(measured.values[:, 2:]).max() < 2e-5
        assert np.all(measured.errors() < [1e-4, 1e-4, 1e-5, 1e-5])


def test_anacal_s_noise_cancels_within_a_unit():
    pytest.importorskip("anacal", reason=MISSING)
    from constellation.validation.peers.with_anacal import noise_image

    scene = GridScene(case_of(cells=8, galaxies={"snr": 20}).scene, 1, 0)
    added = noise_image(Told(scene))
    image = scene.draw((0.0, 0.0))
    assert added.shape == image.sci.shape
    assert added.std() == pytest.approx(scene.noise_adu, rel=0.02)
    margin, spacing = scene.settings.margin_px, scene.settings.spacing_px
    first, second = (added[:, margin + k * spacing :][:, :spacing] for k in (0, 1))
    np.testing.assert_array_equal(first, -second)
    own = image.sci - image.bkg - scene.light((0.0, 0.0))
    assert abs(np.corrcoef(own.ravel(), added.ravel())[0, 1]) < 0.01
    edge = GridScene(case_of(cells=8, margin_px=-24).scene, 1, 0)
    assert noise_image(Told(edge)).shape == edge.draw((0.0, 0.0)).sci.shape


def test_lensmc_finds_each_galaxy_s_ellipticity_on_the_sky():
    """|e| is (1 - q) / (1 + q) in axes west and north; the modes were within 0.0015."""
    pytest.importorskip("lensmc", reason=MISSING)
    from constellation.validation.peers.with_lensmc import measure as ask

    scene = GridScene(case_of(cells=8, noise=False, galaxies={"snr": 1000}).scene, 1, 0)
    told, shear = Told(scene), 0.02 + 0.02j
    intrinsic = scene.sources.e1 + 1j * scene.sources.e2
    seen = (intrinsic + shear) / (1.0 + np.conj(shear) * intrinsic)
    found = {item.method: item for item in ask(told, scene.draw((0.02, 0.02)))}
    mode = found["lensmc_mode"]
    assert mode.settled.all()
    np.testing.assert_allclose(mode.moment / mode.response, seen, atol=5e-3)


def test_a_code_that_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "constellation.validation.peers.with_anacal", raising=False)
    monkeypatch.setitem(sys.modules, "anacal", None)
    case = case_of("anacal", cells=8)
    with pytest.raises(ConfigurationError, match="make validate-peers"):
        run_peers(case, GridScene(case.scene, 1, 0), shears(0.02, 0))


def test_other_codes_are_not_asked_about_other_kinds_of_images():
    case = case_of(cells=8)
    with pytest.raises(ConfigurationError, match="case one"):
        run_peers(case, GridScene(case.scene, 1, 0), shears(0.02, 0))


def test_a_galaxy_s_move_is_what_leaving_it_out_does():
    rng = np.random.default_rng(1)
    moment, response = rng.normal(size=1000) + 1j * rng.normal(size=1000), rng.uniform(1, 2, 1000)
    every = np.ones(1000, bool)
    shear, moves = Shapes("anacal", moment, response, every, 1.0, 1.0).shear()
    without, _ = Shapes("anacal", moment[1:], response[1:], every[1:], 1.0, 1.0).shear()
    assert shear - without == pytest.approx(moves[0], rel=5e-3)
    assert abs(moves.sum()) < 1e-12


def block_of(number, biases, chi2=1.0):
    """Answers of several methods with the multiplicative bias of each."""
    answers = [
        Answer(
            method=method,
            true_shear=shear,
            shear=tuple((1.0 + bias) * g for g in shear),
            covariance=(1e-6, 0.0, 1e-6),
            ellipticity_sigma=None,
            n_galaxies=64,
            converged=True,
            settled_share=1.0,
            chi2_per_pixel=chi2,
            cpu_s=0.64,
            compile_s=0.0,
        )
        for method, bias in biases.items()
        for shear in shears(0.02, number)
    ]
    return Block("one", number, answers, [])


def test_the_report_compares_the_blocks_that_the_others_measured(tmp_path):
    campaign = Campaign(cases=(case_of("anacal", cells=8),))
    own = {"one": [block_of(0, {"marginal": 0.01}), block_of(1, {"marginal": 0.03})]}
    assert read_peers(campaign, tmp_path) == {}
    block_of(1, {"anacal": 0.05}, chi2=float("nan")).write(tmp_path / "one" / "1.parquet")
    peers = side_by_side(campaign, own, read_peers(campaign, tmp_path))
    assert {item.measured.method: item.numbers["m1"] for item in peers} == {
        "marginal": pytest.approx(0.03),
        "anacal": pytest.approx(0.05),
    }
    report = Report(1, outcomes(campaign, own), [], "make validate-full", peers)
    lines = markdown(report).splitlines()
    assert "| one kind | AnaCal, true positions | 64 | +50.00 |" in "\n".join(lines)
    write_report(report, tmp_path / "report")
    content = json.loads((tmp_path / "report" / "validation.json").read_text())
    assert [item["method"] for item in content["results"]] == ["marginal"]
    assert [item["method"] for item in content["peers"]] == ["marginal", "anacal"]
    assert content["peers"][1]["chi2_per_pixel"] is None
