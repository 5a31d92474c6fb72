"""Friends of friends against a count by hand."""

import numpy as np

from shine.blends import find_blends


def test_discs_that_touch_form_one_blend_through_chains():
    position = np.array([[0.0, 0.0], [1.9, 0.0], [3.8, 0.0], [10.0, 0.0], [12.5, 0.0]])
    blend = find_blends(position, np.ones(5))
    assert blend[0] == blend[1] == blend[2]
    assert len({blend[0], blend[3], blend[4]}) == 3
    assert blend.max() < 5


def test_a_large_source_reaches_further_than_a_small_one():
    position = np.array([[0.0, 0.0], [5.0, 0.0], [-5.0, 0.0], [40.0, 0.0]])
    blend = find_blends(position, np.array([4.5, 1.0, 0.2, 1.0]))
    assert blend[0] == blend[1]
    assert len({blend[0], blend[2], blend[3]}) == 3


def test_no_source_is_no_blend():
    assert find_blends(np.zeros((0, 2)), np.zeros(0)).shape == (0,)
