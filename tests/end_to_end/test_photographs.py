"""Six hundred real photographs through ``curate run``, against timm's own transform."""

from pathlib import Path

import numpy as np
import pytest

from curation.recipe import load_recipe
from curation.storage import LocalStorage
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, read_table
from curation.verify import verify_shards
from curation_assets.lineage import Lineage
from jobs.curate import curate
from resources.progress import LineProgress
from tests.conftest import needs_shared
from tests.timms_answers import TARS, timms_answers

RECIPE = """\
name: photographs
source: {source}
output: curated
encoder: {{precision: fp32}}
filter: not is_duplicate
machine: {{device: cpu}}
"""


@needs_shared
@pytest.mark.slow
def test_photographs_are_embedded_and_predicted_as_by_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(source=TARS))
    recipe = load_recipe(tmp_path / "recipe.yaml")

    result = curate(recipe, LineProgress(print))

    assert result.failed == {}
    output, artifacts = LocalStorage(tmp_path / "curated"), Lineage(recipe).artifacts
    assert verify_shards(output, artifacts.filtered_folder).differences == ()
    vectors, photographs = [], []
    for tar in sorted(TARS.glob("*.tar")):
        table = read_table(output, artifacts.embeddings(tar.stem), EMBEDDINGS)
        assert table["error"].null_count == table.num_rows
        vectors.append(embedding_matrix(table[EMBEDDING])[0].astype(np.float32))
        data = tar.read_bytes()
        photographs += [
            data[row["image_start"] :][: row["image_bytes"]]
            for row in table.select(["image_start", "image_bytes"]).to_pylist()
        ]
    assert photographs == timms_answers().photographs
    timms_answers().check(np.concatenate(vectors))
