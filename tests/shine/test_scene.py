"""Views, chunks and pixels of a scene against full images."""

from dataclasses import replace

import equinox as eqx
import galsim
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import newton, render
from shine import scene as scene_module
from shine.profiles import PROFILES
from shine.psf import psf_transform
from shine.scene import batches, empty_batch, gather, subtract
from tests.shine.galsim_scenes import ADU_PER_UJY, Galaxy, build, jacobian, psf_stamp

# Nothing of it is left at the highest wave number that a stamp knows, so that stamps do not ring,
# nor where its own stamp ends.
SMOOTH_PSF = galsim.Gaussian(fwhm=0.5).shear(g1=0.05, g2=0.02)
PSF_SIZE = 41


def numbered(shape, weight=1.0):
    """An image whose pixels tell which they are, from 1 on (exact in single precision)."""
    image = np.arange(1.0, 1.0 + shape[0] * shape[1]).reshape(shape)
    return image, np.full(shape, weight), jacobian(0)


def crowd():
    """Blends of one, two and three; the second image sees the half of them."""
    rng = np.random.default_rng(5)
    galaxies = []
    for k in range(36):
        row, column = divmod(k, 6)
        x, y = 30.0 + 60.0 * column + rng.uniform(-3, 3), 30.0 + 60.0 * row + rng.uniform(-3, 3)
        galaxies += [Galaxy(x + 6.0 * j, y + j) for j in range(1 + k % 3)]
    return galaxies


@pytest.fixture
def crowded(monkeypatch):
    """A scene of many chunks."""
    monkeypatch.setattr(scene_module, "chunk_views", lambda size, n_members: 16)
    images = [numbered((360, 360)), numbered((180, 360)), numbered((180, 360), 2.0)]
    return build(crowd(), images, stamp_size=32)[0]


def views_of(scene):
    """{blend: its views} by a count of all stamps' pixels."""
    return {
        int(blend): (k, set(range(first, last)))
        for k, tier in enumerate(scene.tiers)
        for blend, first, last in zip(tier.blend, tier.first[:-1], tier.first[1:], strict=True)
    }


def test_tiers_hold_the_blends_by_their_members(crowded):
    assert [tier.frame.centre.shape[1] for tier in crowded.tiers] == [1, 2, 4]
    count = (crowded.members >= 0).sum(axis=1)
    for tier, n_members in zip(crowded.tiers, (1, 2, 3), strict=True):
        np.testing.assert_array_equal(tier.blend, np.flatnonzero(count == n_members))
        # three exposures see the lower half
        assert set(np.diff(tier.first)) == {1, 3}
    assert crowded.n_sources == 72


@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_chunks_hold_each_active_blend_once_with_all_its_views(crowded, share):
    active = np.random.default_rng(1).uniform(size=len(crowded.members)) < share
    views = views_of(crowded)
    assert set(views) == set(range(len(active)))
    found, shapes = [], {}
    for batch in batches(crowded, active):
        tier = crowded.tiers[batch.tier]
        shapes.setdefault(batch.tier, set()).add((batch.view.shape, batch.source.shape))
        real = batch.view < tier.first[-1]
        np.testing.assert_array_equal(real, np.arange(len(real)) < batch.n_views)
        assert len(set(batch.view[real])) == real.sum()
        assert batch.slot.min() >= 0
        assert batch.slot.max() < len(batch.blend)
        for slot, blend in enumerate(batch.blend):
            if blend < 0:
                assert not (real & (batch.slot == slot)).any()
                assert np.all(batch.source[slot] == -1)
                continue
            found.append(int(blend))
            assert views[blend] == (batch.tier, set(batch.view[real & (batch.slot == slot)]))
            n_slots = batch.source.shape[1]
            np.testing.assert_array_equal(batch.source[slot], crowded.members[blend, :n_slots])
    assert sorted(found) == np.flatnonzero(active).tolist()
    # one program for each stamp size and number of members
    assert all(len(of_tier) == 1 for of_tier in shapes.values())


def test_a_chunk_has_room_for_the_blend_with_most_views(monkeypatch):
    monkeypatch.setattr(scene_module, "chunk_views", lambda size, n_members: 16)
    pair = [Galaxy(20.0, 20.0), Galaxy(60.0, 20.0)]
    scene, _ = build(pair, [numbered((40, 80))] * 20, stamp_size=32)
    chunks = list(batches(scene, np.ones(2, bool)))
    assert sum((batch.view < scene.tiers[0].first[-1]).sum() for batch in chunks) == 40
    for batch in chunks:
        assert len(batch.view) == 32


def test_padding_carries_neither_weight_nor_light(crowded):
    n_real = 0
    for batch in batches(crowded, np.ones(len(crowded.members), bool)):
        chunk = gather(crowded, crowded.data_adu, batch)
        real = batch.view < crowded.tiers[batch.tier].first[-1]
        np.testing.assert_array_equal(chunk.weight[~real], 0.0)
        assert np.all(np.asarray(chunk.weight[real]).max(axis=(1, 2)) > 0.0)
        np.testing.assert_array_equal(chunk.present, batch.source >= 0)
        n_real += real.sum()
        observed = np.tile(np.float32([5.0, 0.3, 0.5, -0.5, 0.0, 0.0]), (*batch.source.shape, 1))
        found = newton.measure(crowded.profile, chunk, observed)
        absent = batch.source < 0
        for part in (found.curvature, found.pull, found.bend):
            assert np.isfinite(part).all()
            np.testing.assert_array_equal(np.asarray(part)[absent], 0.0)
        sources = np.asarray(found.curvature).transpose(0, 3, 1, 2, 4)
        np.testing.assert_array_equal(sources[absent], 0.0)
        # views that pad a chunk add nothing, whatever they show, even if worked on
        wrong = eqx.tree_at(
            lambda chunk: chunk.frame.adu_per_ujy,
            chunk._replace(n_views=np.int32(len(real))),
            np.where(real, chunk.frame.adu_per_ujy, np.float32(1e6)),
        )
        again = newton.measure(crowded.profile, wrong, observed)
        for part, other in zip(found, again, strict=True):
            np.testing.assert_array_equal(part, other)
    assert n_real == sum(int(tier.first[-1]) for tier in crowded.tiers)


def test_an_empty_chunk_says_nothing(crowded):
    full = next(batches(crowded, np.ones(len(crowded.members), bool)))
    batch = empty_batch(crowded, 0)
    assert [np.shape(part) for part in batch] == [np.shape(part) for part in full]
    chunk = gather(crowded, crowded.data_adu, batch)
    observed = np.tile(np.float32([5.0, 0.3, 0.5, -0.5, 0.0, 0.0]), (*batch.source.shape, 1))
    for part in newton.measure(crowded.profile, chunk, observed):
        np.testing.assert_array_equal(part, 0.0)


def test_overlapping_stamps_of_different_blends_share_their_pixels():
    pair = [Galaxy(40.2, 40.0), Galaxy(46.0, 43.3)]
    scene, _ = build(pair, [numbered((90, 100))], stamp_size=32, radius_px=1.0)
    (tier,) = scene.tiers
    assert tier.blend.tolist() == [0, 1]
    data = np.asarray(scene.data_adu)
    # floor(x + 0.5) - 16 is the first column
    for view, (x0, y0) in enumerate([(24, 24), (30, 27)]):
        cut = numbered((90, 100))[0][y0 : y0 + 32, x0 : x0 + 32]
        np.testing.assert_array_equal(data[tier.pixel[view]].reshape(32, 32), cut)
    places = np.asarray(tier.pixel[:2])
    # 26 x 29 of them are in both
    assert np.intersect1d(*places).size == 26 * 29
    assert np.unique(places).size == 2 * 32**2 - 26 * 29
    assert np.unique(data[np.unique(places)]).size == 2 * 32**2 - 26 * 29


def test_a_stamp_is_clipped_at_the_edge_and_at_masked_pixels():
    source = Galaxy(3.3, 70.0)
    image, weight, matrix = numbered((80, 60))
    weight[72, 5], image[72, 5] = 0.0, np.nan
    scene, _ = build([source], [(image, weight, matrix)], stamp_size=32)
    (tier,) = scene.tiers
    data, weights = np.asarray(scene.data_adu), np.asarray(scene.weight)
    pixel = np.asarray(tier.pixel[0]).reshape(32, 32)
    # columns -13 ... 18, rows 54 ... 85
    inside = np.zeros((32, 32), bool)
    inside[:26, 13:] = True
    inside[72 - 54, 5 + 13] = False
    np.testing.assert_array_equal(pixel == len(data) - 1, ~inside)
    np.testing.assert_array_equal(weights[pixel] > 0, inside)
    np.testing.assert_array_equal(data[pixel][inside], image[54:80, :19][inside[:26, 13:]])
    np.testing.assert_allclose(tier.frame.centre[0, 0], [16.3, 16.0], rtol=1e-6)
    assert np.isfinite(data).all()


def in_vain(shape, matrix):
    return np.zeros(shape), np.ones(shape), matrix


def double(tree):
    """In double precision; call it within `jax.enable_x64`."""
    wide = {np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}
    return jax.tree.map(lambda a: jnp.asarray(a, wide[a.dtype]), tree)


def filtered(scene, observed):
    """The residual once all blends are drawn, chunk by chunk."""
    dark = observed * np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    residual = jnp.array(scene.data_adu)
    for batch in batches(scene, np.ones(len(scene.members), bool)):
        chunk = gather(scene, residual, batch)
        _, change = newton.compare(scene.profile, chunk, dark[batch.source], observed[batch.source])
        residual = subtract(scene, residual, batch, (change, np.ones(len(batch.view), bool)))
    return np.asarray(residual)


def drawn_at_once(galaxies, observed, matrix, shape):
    """All sources on one stamp larger than the quadrant."""
    size = 256
    margin = (size - np.array(shape)) // 2
    frame = render.StampFrame(
        inverse_jacobian=np.linalg.inv(matrix).astype(np.float32),
        centre=np.float32([(g.x + margin[1], g.y + margin[0]) for g in galaxies]),
        adu_per_ujy=np.float32(ADU_PER_UJY),
        psf_hat=psf_transform(psf_stamp(matrix, SMOOTH_PSF, PSF_SIZE), size, 1),
    )
    n = len(galaxies)
    sources = render.Galaxies(jnp.asarray(observed), jnp.zeros((n, 0)), jnp.ones(n))
    image = render.render(PROFILES["exponential"], size, double(frame), sources)
    return np.asarray(image)[margin[0] : margin[0] + shape[0], margin[1] : margin[1] + shape[1]]


# At multiples of 1/8 px, which single precision holds exactly in any stamp
FIELD = [
    Galaxy(60.125, 60.5, 10.0, 0.15, 0.2, 0.1),
    Galaxy(66.0, 62.25, 4.0, 0.1, -0.3, 0.2),  # one blend with the first
    Galaxy(75.5, 70.0, 6.0, 0.2, 0.1, -0.4),  # a blend of its own, over the others
    Galaxy(3.5, 100.875, 8.0, 0.15, 0.0, 0.3),  # over the edge
    Galaxy(117.0, -4.0, 8.0, 0.2, 0.3, 0.0),  # beyond it
    Galaxy(100.25, 40.0, 3.0, 0.12, 0.0, 0.0),
]


def test_a_scene_drawn_blend_by_blend_is_the_one_drawn_at_once():
    shape, matrices = (120, 130), [jacobian(0), jacobian(90, -1)]

    def scene_of(images):
        data = [
            (image, np.ones(shape), matrix) for image, matrix in zip(images, matrices, strict=True)
        ]
        return build(FIELD, data, stamp_size=96, psf=SMOOTH_PSF, psf_size=PSF_SIZE)[0]

    scene = scene_of(np.zeros((2, *shape)))
    assert (scene.members >= 0).sum(axis=1).tolist() == [2, 1, 1, 1, 1]
    observed = np.array([(g.flux_ujy, g.hlr_arcsec, g.e1, g.e2, 0.05, -0.025) for g in FIELD])
    # which pixel of which image a place of the vector is
    numbers = np.arange(1.0, 1.0 + 2 * np.prod(shape)).reshape(2, *shape)
    number = np.asarray(scene_of(numbers).data_adu).astype(int)
    seen = np.asarray(scene.weight) > 0
    np.testing.assert_array_equal(seen, number > 0)
    with jax.enable_x64(True):
        tiers = tuple(replace(tier, frame=double(tier.frame)) for tier in scene.tiers)
        wide = replace(scene, tiers=tiers, data_adu=double(scene.data_adu))
        residual = filtered(wide, observed)
        full = np.stack([drawn_at_once(FIELD, observed, matrix, shape) for matrix in matrices])
    expected = full.ravel()[number[seen] - 1]
    np.testing.assert_allclose(-residual[seen], expected, atol=1e-7 * full.max())
    # what no stamp covers, no source reaches
    unseen = np.ones(full.size, bool)
    unseen[number[seen] - 1] = False
    assert np.abs(full.ravel()[unseen]).max() < 1e-6 * full.max()
    single = filtered(scene, observed.astype(np.float32))
    np.testing.assert_allclose(-single[seen], expected, atol=1e-6 * full.max())


def test_only_the_stamps_that_were_taken_change_the_residual():
    scene, _ = build(FIELD, [in_vain((120, 130), jacobian(0))], stamp_size=64)
    for batch in batches(scene, np.ones(len(scene.members), bool)):
        real = batch.view < scene.tiers[batch.tier].first[-1]
        taken = real & (np.arange(len(real)) == 0)
        change = jnp.ones((len(real), 64, 64))
        residual = subtract(scene, jnp.array(scene.data_adu), batch, (change, taken))
        expected = np.zeros(len(residual))
        expected[np.asarray(scene.tiers[batch.tier].pixel[batch.view[0]])] = -1.0
        np.testing.assert_array_equal(residual[:-1], expected[:-1])
