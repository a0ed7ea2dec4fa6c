"""A pair's cosine is NumPy's in float64, whatever it is computed together with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.vectors import Unusable, make_vectors
from curation.errors import InputError
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.strategies import crowded_vectors


@given(crowded_vectors())
def test_cosines_are_numpys_in_float64(array: np.ndarray) -> None:
    vectors, _, _ = make_vectors(array, device="cpu")
    left, right = np.indices((len(array), len(array))).reshape(2, -1)
    found = vectors.cosines(left, right).reshape(len(array), -1)
    np.testing.assert_allclose(found, cosines(array), atol=1e-6)


@given(crowded_vectors(), st.integers(0, 99))
def test_a_cosine_does_not_hang_on_its_company_or_on_the_order_of_the_two(
    array: np.ndarray, seed: int
) -> None:
    vectors, _, _ = make_vectors(array, device="cpu")
    left, right = np.random.default_rng(seed).integers(len(array), size=(2, 50))
    together = vectors.cosines(left, right)
    alone = [vectors.cosines(right[i : i + 1], left[i : i + 1])[0] for i in range(50)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("noise", [0.0, 0.02, 1.0])
def test_similar_pairs_are_those_of_brute_force_few_or_many(noise: float) -> None:
    rng = np.random.default_rng(0)
    array = rng.standard_normal(32) + noise * rng.standard_normal((300, 32))
    array = (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)
    vectors, _, _ = make_vectors(array, device="cpu")
    rows = np.arange(300)
    half = vectors.half(rows)
    i, j, cosine = vectors.similar_pairs(rows, rows, 0.7, half, half)
    expected = cosines(array)
    np.testing.assert_array_equal(np.stack([i, j]), (expected >= 0.7).nonzero())
    np.testing.assert_allclose(cosine, expected[i, j], atol=1e-6)


def test_vectors_that_can_not_be_compared_are_counted_by_reason() -> None:
    array = np.eye(6, dtype=np.float32)
    array[0] = np.nan
    array[1, 3] = np.inf
    array[2] = 0
    array[3] *= 1.5
    _, usable, unusable = make_vectors(array, device="cpu")
    assert usable.tolist() == [False] * 4 + [True] * 2
    assert unusable == Unusable(not_finite=2, zero=1, not_unit_length=1)
    assert unusable.total == 4
    _, usable, unusable = make_vectors(array, device="cpu", normalize=True)
    assert usable.tolist() == [False] * 3 + [True] * 3
    assert unusable.not_unit_length == 0


def test_other_arrays_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected \(N, dim\) float16 or float32"):
        make_vectors(np.zeros((3, 4), np.int8))
