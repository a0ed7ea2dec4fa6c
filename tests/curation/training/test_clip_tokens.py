"""Captions become the tokens that OpenAI's CLIP was trained with."""

import pickle

import pytest
import torch

from curation.training.clip_tokens import CONTEXT_LENGTH, ClipTokenizer

START, END = 49406, 49407

# What clip 1.0's tokenize(…, truncate=True) answers, printed by
# python -c "import clip; print([[int(t) for t in row if t] for row in clip.tokenize(…)])"
EXPECTED = {
    "a diagram": [START, 320, 22697, END],
    "": [START, END],
    "A  Photo\nof &amp; café": [START, 320, 1125, 539, 261, 15304, END],
}


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
