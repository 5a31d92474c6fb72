"""Blends against counts by hand, and what makes a partition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shine.blends import MOST_MEMBERS, enclosing_circle, find_blends


def on_a_line(*x):
    """Positions (n, 2)."""
    return np.column_stack([x, np.zeros(len(x))])


def test_discs_that_touch_form_one_blend_through_chains():
    blends = find_blends(on_a_line(0.0, 1.9, 3.8, 10.0, 12.5), np.ones(5))
    blend = blends.blend
    assert blend[0] == blend[1] == blend[2]
    assert len({blend[0], blend[3], blend[4]}) == 3
    assert blend.max() < 5
    assert not blends.divided.any()


def test_a_large_source_reaches_further_than_a_small_one():
    position = on_a_line(0.0, 5.0, -5.0, 40.0)
    blend = find_blends(position, np.array([4.5, 1.0, 0.2, 1.0])).blend
    assert blend[0] == blend[1]
    assert len({blend[0], blend[2], blend[3]}) == 3


def test_blends_are_numbered_by_their_first_source():
    # 0 and 3 touch, 1 is alone, 2 and 4 touch
    blends = find_blends(on_a_line(0.0, 50.0, 20.0, 1.0, 21.0), np.ones(5))
    np.testing.assert_array_equal(blends.blend, [0, 1, 2, 0, 2])
    np.testing.assert_array_equal(blends.count, [2, 1, 2])
    expected = np.full((3, MOST_MEMBERS), -1)
    expected[0, :2], expected[1, :1], expected[2, :2] = (0, 3), (1,), (2, 4)
    np.testing.assert_array_equal(blends.members, expected)
    assert [rows.tolist() for rows in blends.rows()] == [[0, 3], [1], [2, 4]]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_sources_need_no_pairs(n):
    blends = find_blends(np.zeros((n, 2)), np.ones(n))
    assert blends.members.shape == (n, MOST_MEMBERS)
    assert blends.blend.tolist() == blends.divided.tolist() == [0] * n
    assert blends.count.tolist() == [1] * n


def test_two_sources_that_do_not_touch_are_two_blends():
    blends = find_blends(on_a_line(0.0, 2.0), np.ones(2))
    assert blends.blend.tolist() == [0, 1]
    assert blends.divided.tolist() == [False, False]


def test_a_long_chain_is_divided_at_its_weakest_link():
    # nine in a row, the gap after the fifth the widest
    gaps = np.array([1.0, 1.1, 1.2, 1.3, 1.9, 1.4, 1.5, 1.6])
    blends = find_blends(on_a_line(*np.append(0.0, np.cumsum(gaps))), np.ones(9))
    assert blends.blend.tolist() == [0] * 5 + [1] * 4
    assert blends.divided.tolist() == [False] * 4 + [True] * 2 + [False] * 3


def test_eight_members_are_still_one_blend():
    blends = find_blends(on_a_line(*np.arange(8.0)), np.ones(8))
    assert blends.count.tolist() == [8]
    assert not blends.divided.any()


def test_the_nearest_pair_is_joined_first():
    # all three do not fit; 1 is nearer to 2 than to 0
    position = on_a_line(0.0, 1.5, 2.5)
    blends = find_blends(position, np.ones(3), widest=2.0)
    assert blends.blend.tolist() == [0, 1, 1]
    assert blends.divided.tolist() == [True, True, False]


def test_nearness_is_in_units_of_the_radii():
    # 1 is nearer to 2 in pixels, but deeper in the disc of 0; all three do not fit
    blends = find_blends(on_a_line(0.0, 2.5, 4.0), np.array([3.0, 1.0, 1.0]), widest=3.5)
    assert blends.blend.tolist() == [0, 0, 1]
    assert blends.divided.tolist() == [False, True, True]


def test_a_source_wider_than_the_widest_blend_stays_alone():
    blends = find_blends(on_a_line(0.0, 1.0, 30.0), np.array([10.0, 1.0, 1.0]), widest=5.0)
    assert blends.blend.tolist() == [0, 1, 2]
    assert blends.divided.tolist() == [True, True, False]


def test_positions_may_lie_on_a_sphere():
    blends = find_blends(np.array([[0.0, 0.0, 9.0], [0.0, 0.5, 9.0], [9.0, 0.0, 0.0]]), np.ones(3))
    assert blends.blend.tolist() == [0, 0, 1]


def test_the_circle_around_discs_holds_them():
    position, radius = on_a_line(0.0, 4.0), np.array([3.0, 1.0])
    centre, around = enclosing_circle(position, radius)
    np.testing.assert_allclose(centre, [1.0, 0.0])
    assert around == pytest.approx(4.0)
    centre, around = enclosing_circle(position[:1], radius[:1])
    np.testing.assert_array_equal(centre, position[0])
    assert around == 3.0


@st.composite
def scenes(draw):
    """Crowded enough that both limits matter; coordinates on a grid make equal distances occur."""
    n = draw(st.integers(0, 40))
    grid = draw(arrays.arrays(np.int64, (n, 2), elements=st.integers(0, 60)))
    radius = draw(arrays.arrays(np.float64, n, elements=st.sampled_from([0.3, 1.0, 2.0])))
    return 0.25 * grid, radius, draw(st.sampled_from([1.5, 3.0, 6.0, np.inf]))


def touching(position, radius):
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    touch = distance < radius[:, None] + radius[None]
    return touch & ~np.eye(len(radius), dtype=bool)


@settings(max_examples=150)
@given(scenes())
def test_blends_are_a_partition_within_the_limits(scene):
    position, radius, widest = scene
    n = len(radius)
    blends = find_blends(position, radius, widest)
    there = blends.members[blends.members >= 0]
    np.testing.assert_array_equal(np.sort(there), np.arange(n))
    # members in ascending order and to the left, blends in the order of their first
    for row, members in zip(blends.members, blends.rows(), strict=True):
        assert len(members) >= 1
        assert np.all(np.diff(members) > 0)
        np.testing.assert_array_equal(row[: len(members)], members)
        np.testing.assert_array_equal(blends.blend[members], blends.blend[members[0]])
        if len(members) > 1:
            assert enclosing_circle(position[members], radius[members])[1] <= widest
    assert np.all(np.diff(blends.members[:, 0]) > 0)
    np.testing.assert_array_equal(
        blends.blend[blends.members[:, 0]], np.arange(len(blends.members))
    )
    assert blends.count.sum() == n
    # a neighbour in another blend
    touch = touching(position, radius)
    apart = blends.blend[:, None] != blends.blend[None]
    np.testing.assert_array_equal(blends.divided, (touch & apart).any(axis=1))
    # a blend hangs together by discs that touch, and is whole unless a limit divides it
    n_parts, part = connected_components(coo_array(touch & ~apart), directed=False)
    assert n_parts == len(blends.members)
    n_friends, friends = connected_components(coo_array(touch), directed=False)
    for k in range(n_friends):
        rows = np.flatnonzero(friends == k)
        if len(rows) <= MOST_MEMBERS and widest == np.inf:
            assert len(set(part[rows])) == 1
