"""What peers' programs do, each as a loop over their data; run by the peer's own Python.

Needs nothing of this project. ``paired.py`` says by lines of JSON on standard input what
to measure, and reads lines of JSON.
"""

import gc
import json
import os
import resource
import sys
import time


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


def embedding_reader(folder, batch_size, count):
    """embedding-reader by itself: one folder of vectors."""
    from embedding_reader import EmbeddingReader

    reader = EmbeddingReader(f"{folder}/img_emb", "npy")
    batches = reader(batch_size, start=0, end=int(0.98 * count), show_progress=False)
    return sum(len(images) for images, _ in batches)


LOOPS = {
    loop.__name__: loop for loop in (prior_embeddings, prior_captions, embedding_reader)
}


def cpu_seconds():
    """Add up this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main():
    """Measure what each line asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print is no answer
    for line in sys.stdin:
        settings = json.loads(line)
        loop = LOOPS[settings.pop("loop")]
        gc.collect()
        cpu, wall = cpu_seconds(), time.perf_counter()
        samples = loop(**settings)
        measured = {
            "samples": samples,
            "wall_seconds": time.perf_counter() - wall,
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(measured), file=answers, flush=True)


if __name__ == "__main__":
    main()
