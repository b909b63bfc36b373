"""How CLIPs read texts: as tokens, up to a limit. Torch is loaded for open_clip's tokenizers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.models.encoders.names import FOLDER, Encoder, parse

_PIECE = re.compile(r"\w+|[^\w\s]")
_FIRST_BYTE, FIRST_WORD = 1, 257
_BATCH = 1024


@dataclass(frozen=True)
class Text:
    """A text as a CLIP reads it."""

    tokens: bytes
    """Equal for texts that the CLIP cannot tell apart."""
    cut: bool
    """Whether the text is longer than the context, so that its end is not read."""


@dataclass(frozen=True)
class Reader:
    """Reads texts as one CLIP does."""

    context: int
    """Most tokens of a text, including the marks of its start and end."""
    read: Callable[[Sequence[str]], Iterator[Text]]


class Words:
    """Frequent words as one token each, everything else as its UTF-8 bytes; case is ignored.

    Ids: 0 padding, 1..256 bytes, 257.. words, then the end token: the largest, where open_clip pools the text.
    """

    def __init__(self, words: Sequence[str], context: int) -> None:
        self._words = {word: FIRST_WORD + index for index, word in enumerate(words)}
        self.context = context
        self.end = FIRST_WORD + len(words)

    def row(self, text: str) -> tuple[list[int], bool]:
        """The tokens of a text, and whether some were cut off, as CLIP does with what exceeds its context."""
        tokens: list[int] = []
        for piece in words_of(text):
            spelt = [_FIRST_BYTE + byte for byte in b" " + piece.encode()]
            tokens.extend([self._words[piece]] if piece in self._words else spelt)
        return [*tokens[: self.context - 1], self.end], len(tokens) > self.context - 1

    def read(self, texts: Sequence[str]) -> Iterator[Text]:
        for text in texts:
            row, cut = self.row(text)
            yield Text(json.dumps(row).encode(), cut)


def words_of(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    return _PIECE.findall(text.lower())


def needs_torch(name: str) -> bool:
    """Whether `reader` loads torch for this CLIP."""
    return parse(name).family != "embedded"


def reader(name: str) -> Reader:
    """How the CLIP of that name reads; its weights are not needed.

    Raises ValueError or OSError where that cannot be had, such as for a tokenizer that cannot be downloaded.
    """
    encoder = parse(name)
    if encoder.family == "embedded":
        config = json.loads((FOLDER / f"{encoder.model}.json").read_text(encoding="utf-8"))
        words = Words(config["words"], config["text"]["context_length"])
        return Reader(words.context, words.read)
    return _open_clip(encoder)


def _open_clip(encoder: Encoder) -> Reader:
    import open_clip

    from harness.models.encoders import files

    source = f"local-dir:{encoder.file}" if encoder.repository and encoder.file else encoder.model
    with files.failures_explained(encoder):
        tokenize = open_clip.get_tokenizer(source)
    context = int(tokenize.context_length)
    (padding,) = tokenize([""], context_length=context + 1)[:, -1].tolist()

    def read(texts: Sequence[str]) -> Iterator[Text]:
        for start in range(0, len(texts), _BATCH):
            part = list(texts[start : start + _BATCH])
            rows, longer = tokenize(part), tokenize(part, context_length=context + 1)
            # One place more holds another token, or moves the mark of the end, where something was cut off.
            cut = (longer[:, :-1] != rows).any(1) | (longer[:, -1] != padding)
            for row, each in zip(rows.numpy(), cut.tolist(), strict=True):
                yield Text(row.tobytes(), each)

    return Reader(context, read)
