"""Croissant metadata, read by the reference implementation."""

from pathlib import Path

import mlcroissant
import pytest

from curation.release.croissant import CONFORMS_TO
from curation.storage import LocalStorage
from tests.curation.release.world import numbered, released, small_recipe, write_filtered


@pytest.mark.filterwarnings("ignore")  # of its own use of other packages
def test_mlcroissant_loads_every_sample(tmp_path: Path) -> None:
    output = LocalStorage(tmp_path)
    write_filtered(output, "a", numbered(6))
    made = released(output, small_recipe(), "a")
    dataset = mlcroissant.Dataset(jsonld=output.root / made.folder / "croissant.json")
    assert dataset.metadata.ctx.conforms_to.value == CONFORMS_TO
    assert not dataset.metadata.ctx.issues.errors
    found = list(dataset.records("samples"))
    keys = sorted(record["samples/key"].decode() for record in found)
    assert keys == [f"00000000{i}" for i in range(4)] + ["000010000", "000010001"]
    assert {record["samples/caption"].decode() for record in found} == {
        f"caption of {key}" for key in numbered(6)
    }
