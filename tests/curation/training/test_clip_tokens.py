"""Captions become the tokens that OpenAI's CLIP was trained with."""

import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.training import clip_tokens
from curation.training.clip_tokens import CONTEXT_LENGTH, ClipTokenizer


@pytest.fixture(scope="module")
def tokenizers() -> tuple[ClipTokenizer, Any]:
    from open_clip.tokenizer import SimpleTokenizer

    return ClipTokenizer(), SimpleTokenizer(context_length=CONTEXT_LENGTH)


START, END = 49406, 49407

# What clip 1.0's tokenize(…, truncate=True) answers, printed by
# python -c "import clip; print([[int(t) for t in row if t] for row in clip.tokenize(…)])"
EXPECTED = {
    "a diagram": [START, 320, 22697, END],
    "": [START, END],
    "A  Photo\nof &amp; café": [START, 320, 1125, 539, 261, 15304, END],
}


@given(st.text(max_size=60) | st.text("ab Z'.,&;<|>\n\t1é’猫 don't I'll", max_size=60))
def test_any_text_gives_the_tokens_of_open_clip(
    tokenizers: tuple[ClipTokenizer, Any], caption: str
) -> None:
    ours, theirs = tokenizers
    assert torch.equal(ours([caption]), theirs([caption]))


@pytest.mark.parametrize("caption", EXPECTED)
def test_tokens_are_those_of_clip(caption: str) -> None:
    tokens = ClipTokenizer()([caption])
    assert tokens.shape == (1, CONTEXT_LENGTH) and tokens.dtype == torch.int64
    expected = EXPECTED[caption]
    assert tokens[0].tolist() == expected + [0] * (CONTEXT_LENGTH - len(expected))


def test_a_long_caption_is_cut_and_still_ends() -> None:
    tokens = ClipTokenizer()(["word " * 200])
    assert tokens.shape == (1, CONTEXT_LENGTH)
    assert tokens[0, 0] == START and tokens[0, -1] == END


def test_can_be_sent_to_a_worker() -> None:
    tokenizer = ClipTokenizer()
    before = tokenizer(["a diagram"])
    copy = pickle.dumps(tokenizer)
    assert len(copy) < 500
    assert torch.equal(pickle.loads(copy)(["a diagram"]), before)


def test_words_that_mean_start_and_end_are_the_tokens_they_are_in_clip() -> None:
    tokens = ClipTokenizer()(["a <|endoftext|> b"])
    assert tokens[0, :5].tolist() == [START, 320, END, 321, END]


def test_open_clip_is_not_imported() -> None:
    code = (
        "import sys; from curation.training.clip_tokens import ClipTokenizer; "
        "ClipTokenizer()(['a']); print('open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_no_vocabulary_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_tokens, "VOCABULARY_PACKAGES", ("no_such_package",))
    clip_tokens._read_merges.cache_clear()
    with pytest.raises(InputError, match="pip install open_clip_torch"):
        ClipTokenizer()
