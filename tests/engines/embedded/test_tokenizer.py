"""Text becomes the same tokens everywhere, about four characters each, and loses nothing."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from agentrt.engines.embedded.prose import sentences
from agentrt.engines.embedded.tokenizer import FIRST_TEXT_ID, VOCABULARY_SIZE, encode, pieces


@given(st.text())
def test_pieces_give_the_text_back(text):
    """No character is lost between tokens."""
    assert "".join(pieces(text)) == text


@given(st.text() | st.text(alphabet=st.characters(categories=["Cs"])))
def test_ids_are_in_the_vocabulary(text):
    """One id per piece, and none collides with a control token."""
    assert len(encode(text)) == len(pieces(text))
    assert all(FIRST_TEXT_ID <= token < VOCABULARY_SIZE for token in encode(text))


@given(st.text(), st.integers(0, 40))
def test_a_cut_between_tokens_keeps_the_tokens_before_it(text, count):
    """The first tokens of a text are the tokens of the text they spell."""
    head = pieces(text)[:count]
    assert pieces("".join(head)) == head


def test_prose_has_about_four_characters_a_token(rng):
    """Sizes measured in characters mean about the same as with a real vocabulary."""
    text = sentences(rng, 2000)
    assert 3.5 < len(text) / len(pieces(text)) < 5


def test_ids_do_not_depend_on_the_process():
    """Another process, with another hash seed, gives the same ids."""
    text = "You are the planner. Ünïcode, too: 42!"
    code = f"from agentrt.engines.embedded.tokenizer import encode; print(list(encode({text!r})))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == str(list(encode(text)))
