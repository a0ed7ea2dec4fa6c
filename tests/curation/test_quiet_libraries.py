"""What C libraries print about an image is thrown away; what others say passes."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from curation.quiet_libraries import quiet_libraries

PROGRAM = """
import ctypes, os, sys, warnings
from curation.quiet_libraries import quiet_libraries
libc = ctypes.CDLL(None)
def c_says(text):
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))
libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
c_says(b"before;")
with quiet_libraries():
    c_says(b"within;")
    with quiet_libraries():
        c_says(b"deep within;")
    c_says(b"still within;")
    warnings.warn("Python within")
    sys.stderr.write("Python;")
    os.write(2, b"descriptor;")
c_says(b"after;")
"""


def test_only_c_libraries_and_warnings_are_silent_and_only_within() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert done.stderr == b"before;Python;descriptor;after;"


def test_no_thread_leaves_it_quiet_for_the_others() -> None:
    def many(_: int) -> None:
        for _ in range(300):
            with quiet_libraries():
                warnings.warn("not heard", stacklevel=1)

    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(many, range(16)))
    assert list(warnings.filters) == filters
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


def test_an_error_ends_it() -> None:
    filters = list(warnings.filters)
    with pytest.raises(ValueError, match="mine"), quiet_libraries():
        raise ValueError("mine")
    assert list(warnings.filters) == filters


DECODERS = """
from dataclasses import replace
from curation.contact_sheet import contact_sheet
from curation.image_loaders import IMAGE_LOADERS, EncodedImage
from curation.testing.image_loader_contract import SETTINGS, SMALL
from curation.testing.odd_pictures import DAMAGES, damaged_copies, pictures_to_damage
damaged = [
    data
    for picture in pictures_to_damage().values()
    for damage in DAMAGES
    for data in damaged_copies(picture, damage, 2)
]
for loader in IMAGE_LOADERS.values():
    for what in ("quarantine", "keep"):
        images = (EncodedImage(row, data) for row, data in enumerate(damaged))
        settings = replace(SETTINGS, on_corruption=what, max_pixels=1_000_000)
        for batch in loader(SMALL, settings).load(images):
            pass
contact_sheet(damaged)
"""


def test_no_decoder_says_anything_of_damaged_images() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECODERS], capture_output=True, check=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == ""
