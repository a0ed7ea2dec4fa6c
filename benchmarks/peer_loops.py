"""What peers' programs do, each as a loop over their data; run by the peer's own Python.

``paired.py`` says by lines of JSON on standard input what to measure, and reads lines of
JSON. Where the peak of memory counts, ours is a loop here too, so that both begin in a
fresh process.
"""

import gc
import importlib
import json
import os
import sys
import time
import types
from pathlib import Path


def prior_embeddings(folder, batch_size, count):
    """DALLE2-pytorch's PriorEmbeddingDataset, image and text embeddings."""
    from dalle2_pytorch.dataloaders import get_reader, make_splits

    readers = get_reader(False, f"{folder}/img_emb", txt_url=f"{folder}/text_emb")
    loader, _, _ = make_splits(False, batch_size, count, 0.98, 0.01, *readers)
    return sum(len(images) for images, _ in loader)


def prior_captions(folder, batch_size, count):
    """DALLE2-pytorch's PriorEmbeddingDataset, tokenized captions."""
    from dalle2_pytorch.dataloaders import get_reader, make_splits

    reader = get_reader(True, f"{folder}/img_emb", f"{folder}/metadata")
    loader, _, _ = make_splits(True, batch_size, count, 0.98, 0.01, reader)
    return sum(len(images) for images, _ in loader)


def decoder(folder, count, workers):
    """DALLE2-pytorch's image-embedding loader, which gives every worker all samples."""
    from dalle2_pytorch.dataloaders import create_image_embedding_dataloader
    from torchvision.transforms import ToTensor

    tars = sorted(map(str, (Path(folder) / "tars").iterdir()))
    loader = create_image_embedding_dataloader(
        tars,
        workers,
        32,
        img_embeddings_url=f"{folder}/emb",
        index_width=4,
        shuffle_shards=False,
        img_preproc=ToTensor(),
    )
    seen = sum(len(images) for images, _ in loader)
    assert seen == count * workers
    return count


def embedding_reader(folder, batch_size, count):
    """embedding-reader by itself: one folder of vectors."""
    from embedding_reader import EmbeddingReader

    reader = EmbeddingReader(f"{folder}/img_emb", "npy")
    batches = reader(batch_size, start=0, end=int(0.98 * count), show_progress=False)
    return sum(len(images) for images, _ in batches)


def reorder_theirs(folder, output, index_width):
    """embedding-dataset-reordering, in one process."""
    from embedding_dataset_reordering.api import reorder_embeddings

    reorder_embeddings(
        output_folder=output,
        embeddings_folder=f"{folder}/img_emb",
        metadata_folder=f"{folder}/metadata",
        index_width=index_width,
        output_shard_width=5,
    )
    return 0


def reorder_ours(folder, output, index_width):
    """Match the same embeddings with this project."""
    from curation.exports.matching import match_embeddings

    report = match_embeddings(
        f"{folder}/img_emb", f"{folder}/metadata", output, index_width=index_width
    )
    return report.num_matched


def img2dataset_urls(urls, output, at_once):
    """img2dataset, in one process, with the images as they come."""
    from img2dataset import download

    download(
        url_list=urls,
        output_folder=output,
        output_format="webdataset",
        processes_count=1,
        thread_count=at_once,
        number_sample_per_shard=1000,
        disable_all_reencoding=True,
    )
    stats = [json.loads(file.read_text()) for file in Path(output).glob("*_stats.json")]
    return sum(shard["successes"] for shard in stats)


LOOPS = {
    "prior_embeddings": (prior_embeddings, "dalle2_pytorch.dataloaders"),
    "prior_captions": (prior_captions, "dalle2_pytorch.dataloaders"),
    "decoder": (decoder, "dalle2_pytorch.dataloaders"),
    "embedding_reader": (embedding_reader, "embedding_reader"),
    "reorder_theirs": (reorder_theirs, "embedding_dataset_reordering.api"),
    "img2dataset_urls": (img2dataset_urls, "img2dataset"),
    "reorder_ours": (reorder_ours, "curation.exports.matching"),
}
"""Name to loop and what to import before the clock starts."""

UNUSED = {"img2dataset": "download", "clip_retrieval": "clip_inference"}
"""What embedding-dataset-reordering imports for its tests' sake."""


def cpu_seconds():
    """Add up this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mb():
    """Give the most memory that this program has had, imports and all.

    Not ``getrusage``: that counts what the process was before it became this program.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def leave_out_unused():
    """Put empty modules in the place of unused ones."""
    for name, imported in UNUSED.items():
        module = types.ModuleType(name)
        setattr(module, imported, None)
        sys.modules.setdefault(name, module)


def main():
    """Measure what each line asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print is no answer
    for line in sys.stdin:
        settings = json.loads(line)
        loop, module = LOOPS[settings.pop("loop")]
        if loop is reorder_theirs:
            leave_out_unused()
        importlib.import_module(module)
        gc.collect()
        imported = peak_mb()
        cpu, wall = cpu_seconds(), time.perf_counter()
        samples = loop(**settings)
        measured = {
            "samples": samples,
            "wall_seconds": time.perf_counter() - wall,
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_mb": peak_mb(),
            "imported_mb": imported,
        }
        print(json.dumps(measured), file=answers, flush=True)


if __name__ == "__main__":
    main()
