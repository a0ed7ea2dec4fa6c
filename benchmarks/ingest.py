"""How fast do image files, and URLs, become raw shards?

Files: photographs with a caption beside each, in a folder, in the page cache. Everything
is timed: looking, the plan, the shards. The floor is ``tar`` of the same folder, which
gives no samples their keys; the peer is webdataset's ``ShardWriter``, fed as its users do.

URLs: the same photographs from a web server of this machine (aiohttp's, in a process of
its own, on the same cores). The peer is img2dataset, told not to re-encode, with as many
downloads at once, in a Python of its own: it can't be installed beside webdataset 1. Its
worker process starts anew for every run, which is part of what a run takes.

    python benchmarks/ingest.py [--quick] [--peer-python PYTHON]
"""

import argparse
import asyncio
import multiprocessing
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import webdataset
from paired import Measured, Peer, measure, print_rates, print_ratio, take_turns
from photographs import read_photographs

from curation.ingest.images import find_images, write_images
from curation.ingest.urls import import_urls, read_urls
from curation.recipe import DownloadSettings
from curation.storage import LocalStorage

ROUNDS = 5
DOWNLOADS_AT_ONCE = 32


def make_files(folder: Path, count: int) -> int:
    """Write photographs with captions; give their bytes."""
    photographs = read_photographs(None)
    folder.mkdir()
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        (folder / f"{number:06d}.jpg").write_bytes(photograph)
        (folder / f"{number:06d}.txt").write_text(f"caption of photograph {number}")
    return sum(file.stat().st_size for file in folder.iterdir())


def import_files(folder: Path, out: Path) -> int:
    """Import them with this project."""
    images = find_images(LocalStorage(folder))
    write_images(images, LocalStorage(out))
    return images.num_samples


def write_with_webdataset(folder: Path, out: Path) -> int:
    """Write them as webdataset's users do."""
    out.mkdir()
    files = sorted(folder.glob("*.jpg"))
    with webdataset.ShardWriter(f"{out}/%05d.tar", maxcount=1000, verbose=0) as writer:
        for number, file in enumerate(files):
            caption = file.with_suffix(".txt").read_bytes()
            sample = {"__key__": f"{number:08d}", "jpg": file.read_bytes(), "txt": caption}
            writer.write(sample)
    return len(files)


def tar(folder: Path, out: Path) -> int:
    """Put them into one tar with ``tar``."""
    out.mkdir()
    subprocess.run(["tar", "cf", out / "all.tar", "-C", folder, "."], check=True)
    return sum(1 for _ in folder.glob("*.jpg"))


def serve(folder: Path, port: Connection) -> None:
    """Serve a folder until the process is ended."""
    from aiohttp import web

    async def run() -> None:
        application = web.Application()
        application.router.add_static("/", folder)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def import_list(urls: Path, out: Path) -> int:
    """Fetch them with this project."""
    settings = DownloadSettings(concurrency=DOWNLOADS_AT_ONCE, allow_private_addresses=True)
    listed = read_urls(LocalStorage(urls.parent), urls.name)
    done = import_urls(listed, LocalStorage(out), settings)
    return sum(shard.num_images for shard in done)


def into_a_fresh_folder(loop: Callable[[Path], Measured], out: Path) -> Measured:
    """Run a loop, and forget what it wrote."""
    try:
        return loop(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def compare_files(folder: Path, out: Path, rounds: int, num_bytes: int) -> None:
    """Measure and print how files become shards."""
    loops = {"ours": import_files, "tar": tar, "ShardWriter": write_with_webdataset}
    turns = {
        name: partial(
            into_a_fresh_folder,
            lambda to, loop=loop: measure(partial(loop, folder, to)),
            out,
        )
        for name, loop in loops.items()
    }
    found = take_turns(turns, rounds)
    print_rates(f"files, {num_bytes / 1e6:.0f} MB", found)
    print_ratio(found, "ours", "tar")
    print_ratio(found, "ours", "ShardWriter")


def compare_urls(
    urls: Path, out: Path, rounds: int, count: int, peer_python: str | None
) -> None:
    """Measure and print how URLs become shards."""
    turns = {
        "ours": partial(
            into_a_fresh_folder, lambda to: measure(partial(import_list, urls, to)), out
        )
    }
    if peer_python:
        peer = Peer(peer_python)
        turns["img2dataset"] = partial(
            into_a_fresh_folder,
            lambda to: peer.measure(
                "img2dataset_urls",
                urls=str(urls),
                output=str(to),
                at_once=DOWNLOADS_AT_ONCE,
            ),
            out,
        )
    found = take_turns(turns, rounds)
    print_rates(f"{count:,} URLs, {DOWNLOADS_AT_ONCE} at once", found)
    if peer_python:
        print_ratio(found, "ours", "img2dataset")
        peer.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth, 2 rounds")
    parser.add_argument("--peer-python", help="a Python that has img2dataset")
    arguments = parser.parse_args()
    count, rounds = (400, 2) if arguments.quick else (4000, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_bytes = make_files(folder / "files", count)
        compare_files(folder / "files", folder / "out", rounds, num_bytes)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(folder / "files", theirs))
        server.start()
        try:
            root = f"http://127.0.0.1:{ours.recv()}"
            lines = [f"{root}/{number:06d}.jpg" for number in range(count)]
            (folder / "list.txt").write_text("\n".join(lines))
            python = arguments.peer_python
            compare_urls(folder / "list.txt", folder / "out", rounds, count, python)
        finally:
            server.terminate()
            server.join()


if __name__ == "__main__":
    main()
