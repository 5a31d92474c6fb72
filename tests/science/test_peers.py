"""Other codes on the validation's images: conventions, noise, influences and the table."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from constellation import code_digests
from constellation.validation.analysis import measure
from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.scene import GridScene
from constellation.validation.drawing.settings import FieldSettings, SceneSettings
from constellation.validation.outcomes import outcomes
from constellation.validation.peers.estimate import Shapes
from constellation.validation.peers.run import run_peers
from constellation.validation.peers.told import Told
from constellation.validation.records import Answer, Block, Cost
from constellation.validation.report import Report, write_report
from constellation.validation.shears import shears
from constellation.validation.side_by_side import not_asked, read_peers, side_by_side
from constellation.validation.tables import markdown
from shine.errors import ConfigurationError, ConvergenceError, InputError

MISSING = "the group `peers` is not installed; `make validate-peers` installs it"


def case_of(*peers, **scene):
    settings = {"name": "one", "level": 1, "shows": "one kind", "blocks": 2, "scene": scene}
    settings["peer_blocks"] = 2
    return Case.model_validate(settings | {"peers": peers})


def run(case, block=0):
    return run_peers(Campaign(cases=(case,)), case, block)


class Code:
    """In the place of a code's module: finds the shear, from the galaxies that settle."""

    def __init__(self, settled):
        self.settled = settled

    def measure(self, told, image):
        del image
        weight = 1.0 * self.settled
        return [Shapes("anacal", (0.01 + 0.02j) * weight, weight, self.settled, 1.0, 2.0)]


def test_anacal_finds_the_shear_of_noiseless_images():
    """Roll, parity and the distortion that the pixels' axes lose; m was -0.8e-4, c 4e-7."""
    pytest.importorskip("anacal", reason=MISSING)
    case = case_of("anacal", cells=16, noise=False, galaxies={"snr": 1000})
    blocks = [run(case, number) for number in range(2)]
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
    told = Told(scene)
    assert noise_image(told) is noise_image(told)  # drawn once for all methods and images
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
    np.testing.assert_allclose(mode.moment / mode.response, seen, atol=2e-3)


def test_lensmc_s_chains_are_others_in_every_block(monkeypatch):
    pytest.importorskip("lensmc", reason=MISSING)
    from constellation.validation.peers import with_lensmc

    seeds = []

    def fail(_stamp, *, seed, **_settings):
        seeds.append(seed)
        return SimpleNamespace(has_values=False)

    monkeypatch.setattr(with_lensmc, "measure_shear", fail)
    case = case_of("lensmc", cells=8)
    for block in range(2):
        with pytest.raises(ConvergenceError, match=f"case one, block {block}, .* by lensmc"):
            run(case, block)
    assert seeds == list(range(128))


def test_a_code_that_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "constellation.validation.peers.with_anacal", raising=False)
    monkeypatch.setitem(sys.modules, "anacal", None)
    case = case_of("anacal", cells=8)
    with pytest.raises(ConfigurationError, match="make validate-peers"):
        run(case)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"peers": ()}, "no `peers`"),
        ({"field": FieldSettings()}, "`field`"),
        ({"coverage": 3}, "`coverage`"),
        (
            {"scene": SceneSettings(galaxies={"profile": "real", "sample": "cosmos"})},
            "`profile: real`",
        ),
    ],
)
def test_other_codes_are_not_asked_about_other_kinds_of_images(changed, found):
    case = case_of("anacal", cells=8)
    with pytest.raises(ConfigurationError, match=f"case one: found {found}, expected"):
        # the campaign would refuse some of them by itself
        run_peers(Campaign(cases=(case,)), case.model_copy(update=changed), 0)


def test_only_galaxies_that_settle_count(monkeypatch):
    settled = np.arange(64) < 48
    monkeypatch.setattr("constellation.validation.peers.run._code", lambda name: Code(settled))
    block = run(case_of("anacal", cells=8), 1)
    assert (block.case, block.block) == ("one", 1)
    assert [answer.true_shear for answer in block.answers] == shears(0.02, 1)
    for answer in block.answers:
        assert answer.shear == pytest.approx((0.01, 0.02))
        assert (answer.n_galaxies, answer.settled_share, answer.converged) == (48, 0.75, False)


def test_a_code_that_measures_no_galaxy_is_an_error(monkeypatch):
    none = np.zeros(64, bool)
    monkeypatch.setattr("constellation.validation.peers.run._code", lambda name: Code(none))
    with pytest.raises(ConvergenceError, match=r"case one, block 1, .*no galaxy.* anacal"):
        run(case_of("anacal", cells=8), 1)


def test_the_psf_is_drawn_once():
    told = Told(GridScene(case_of(cells=8).scene, 1, 0))
    psf = told.psf(16, 1)
    assert told.psf(16, 1) is psf
    assert told.psf(16, 3).shape == (48, 48)


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
        )
        for method, bias in biases.items()
        for shear in shears(0.02, number)
    ]
    return Block("one", number, answers, [])


def test_the_report_compares_the_blocks_that_the_others_measured(tmp_path):
    campaign = Campaign(cases=(case_of("anacal", cells=8),))
    own = {"one": [block_of(0, {"marginal": 0.01}), block_of(1, {"marginal": 0.03})]}
    block_of(1, {"anacal": 0.05}, chi2=float("nan")).write(tmp_path / "any.parquet")
    asked = read_peers(campaign, [tmp_path / "any.parquet"])
    peers = side_by_side(campaign, own, asked)
    assert (not_asked(campaign, {}), not_asked(campaign, asked)) == ({"one": 2}, {"one": 1})
    assert {item.measured.method: item.numbers["m1"] for item in peers} == {
        "marginal": pytest.approx(0.03),
        "anacal": pytest.approx(0.05),
    }
    report = Report(1, outcomes(campaign, own), [], "make validate-full", peers, Cost())
    lines = markdown(report).splitlines()
    assert "| one kind | AnaCal, true positions | 64 | +50.00 |" in "\n".join(lines)
    write_report(report, tmp_path / "report")
    content = json.loads((tmp_path / "report" / "validation.json").read_text())
    assert [item["method"] for item in content["results"]] == ["marginal"]
    assert [item["method"] for item in content["peers"]] == ["marginal", "anacal"]
    assert content["peers"][1]["chi2_per_pixel"] is None


def test_files_that_are_no_blocks_of_the_campaign_are_refused(tmp_path):
    campaign = Campaign(cases=(case_of("anacal", cells=8),))
    path, late = tmp_path / "0.parquet", tmp_path / "2.parquet"
    block_of(0, {"anacal": 0.0}).write(path)
    block_of(2, {"anacal": 0.0}).write(late)
    assert read_peers(campaign, []) == {}
    with pytest.raises(InputError, match=r"0\.parquet: found block 0 .*another file"):
        read_peers(campaign, [path, path])
    with pytest.raises(InputError, match=r"2\.parquet: found block 2 of case 'one', .*lacks"):
        read_peers(campaign, [late])
    other = campaign.model_copy(
        update={"cases": (campaign.cases[0].model_copy(update={"name": "two"}),)}
    )
    with pytest.raises(InputError, match="which the campaign lacks"):
        read_peers(other, [path])


def test_other_codes_are_not_asked_again_when_shine_changes(monkeypatch):
    """What asks them imports nothing of the inference."""
    seen = []
    read = code_digests._read
    monkeypatch.setattr(
        code_digests, "_read", lambda name, path: seen.append(path) or read(name, path)
    )
    for name in ("run", "with_anacal", "with_lensmc"):
        code_digests.code_of.__wrapped__(f"constellation.validation.peers.{name}")
    of_shine = {path.stem for path in seen if path.parent.name == "shine"}
    assert of_shine <= {"atomic", "errors", "yaml_files"}
    assert {"run", "shears", "scene", "told", "estimate"} <= {path.stem for path in seen}
    assert not any("euclid" in path.parts for path in seen)
