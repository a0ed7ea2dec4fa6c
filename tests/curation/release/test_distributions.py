"""How numbers are spread, compared with NumPy over all rows."""

import numpy as np

from curation.release.distributions import QUANTILES, read_distributions
from curation.storage import MemoryStorage
from tests.curation.release.world import numbered, released, small_recipe, write_filtered


def test_quantiles_are_over_all_tars() -> None:
    output = MemoryStorage("output")
    samples = {
        key: {**sample, "jpg": bytes(number)}
        for number, (key, sample) in enumerate(numbered(9).items())
    }
    write_filtered(output, "a", samples)
    found = read_distributions(output, released(output, small_recipe(), "a"))
    assert found.quantiles["image_bytes"] == tuple(np.quantile(range(9), QUANTILES))
    assert found.quantiles["width"] == (64,) * 7
    assert found.formats == {"jpeg": 9}
