"""Whether published weights can be had: in the hub's cache, or from where they lie.

The libraries that fetch them try for minutes where there is no network, and talk of it. A
look costs one short request, or none where the file is there, and says so at once.
"""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_SECONDS = 5.0  # without an answer

FILE_NAMES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""What files of weights are called in repositories of Hugging Face's hub."""


def repository_trouble(repository: str, names: Sequence[str] = FILE_NAMES) -> str | None:
    """Say why the weights of a repository of Hugging Face's hub can't be had.

    Args:
        repository: ``owner/name``, perhaps with ``@revision``.
        names: What the file of weights may be called; the first is asked for.

    Returns:
        None if one of the files is in the cache, or the hub answers for the repository.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repo, _, revision = repository.partition("@")
    at = {"revision": revision} if revision else {}
    for name in names:
        if isinstance(hub.try_to_load_from_cache(repo, name, **at), str):
            return None
    url = hub.hf_hub_url(repo, names[0], **at)
    try:
        hub.get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
    except EntryNotFoundError:
        return None  # the hub answered: the file has another of the names
    except Exception as error:  # of whichever HTTP library the hub's client uses
        return f"{url}: {_told(error)}"
    return None


def url_trouble(url: str, folder: Path) -> str | None:
    """Say why a file can't be had from its address.

    Args:
        url: Its address, ``https``.
        folder: Where a copy of it may be, under the last part of the address.

    Returns:
        None if it is in the folder, or the server answers for it.
    """
    if (folder / url.rpartition("/")[2]).is_file():
        return None
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return None
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer too, and holds the connection
        return f"{url}: {_told(error)}"


def _told(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"
