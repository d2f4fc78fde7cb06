"""Text to token ids without a vocabulary file: about four characters a token, the same in every process.

A piece of text is a token; its id is a checksum of the piece. Two pieces may share an id, which costs nothing:
ids only have to be equal for equal text, and a cached block holds sixteen of them.
"""

import re
import zlib
from array import array
from functools import lru_cache

VOCABULARY_SIZE = 128_000
FIRST_TEXT_ID = 16
"""Lower ids are control tokens of the chat template."""

# Words with their leading space, cut so that English prose comes out at about four characters a token.
_PIECES = re.compile(r" ?[^\W\d_]{1,6}|\d{1,3}|\s+|[^\w\s]{1,3}|_+")
_CACHED_TEXTS = 4096


def pieces(text: str) -> list[str]:
    """The text of each token; joined they give the text back."""
    return _PIECES.findall(text)


@lru_cache(maxsize=_CACHED_TEXTS)
def encode(text: str) -> "array[int]":
    """Token ids of a text. The result is shared: do not change it."""
    span = VOCABULARY_SIZE - FIRST_TEXT_ID
    # Half a surrogate pair may come out of JSON; it is text like any other.
    return array("I", [FIRST_TEXT_ID + zlib.crc32(p.encode("utf-8", "surrogatepass")) % span for p in pieces(text)])
