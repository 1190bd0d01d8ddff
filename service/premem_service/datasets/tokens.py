"""What a checkpoint's tokenizer makes of prompt and target, for a look at them before anything is scored.

Its file, tokenizer.json, is enough for that: neither torch nor transformers is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from premem.errors import CheckpointError
from premem.method.spans import closing_tokens, split_target
from premem.roots import lying_under
from premem.wire.previews import PreviewTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
KEPT = 4
"""A large vocabulary takes a second to read, and tens of megabytes of memory."""


class FileTokenizer:
    """A tokenizer out of its file, in the way in which workers' tokenizers are asked (premem.method.spans.Tokenizer)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # Some are saved with what their training cut and padded; nothing is cut when a row is scored.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def split(self, prompt: str, target: str) -> PreviewTokens:
        """Which tokens of a prompt and the text right behind it are scored."""
        span = split_target(self, prompt, target, closing=closing_tokens(self))
        text, texts, begin = prompt + target, [], 0
        for _, end in self._tokenizer.encode(text).offsets[: len(span.tokens)]:
            # From where the token before ended: the offsets of some tokenizers leave out the space in front of a word,
            # and those of special tokens stand at 0.
            end = max(begin, end)
            texts.append(text[begin:end])
            begin = end
        if texts:
            texts[-1] += text[begin:]
        return PreviewTokens(texts=texts, target_start=span.target_start, shifted=span.shifted)


def tokenizer_of(checkpoint: str, *, roots: Sequence[Path]) -> FileTokenizer:
    """That of a folder under one of `roots`; a relative path is looked for under each.

    Links and `..` are followed before the roots are compared. Raises CheckpointError with the reason where the service may
    not read it, or cannot.
    """
    if not roots:
        raise CheckpointError("this service reads no checkpoints: PREMEM_CHECKPOINT_ROOTS names no folder")
    try:
        allowed = lying_under(Path(checkpoint) / FILE, roots)
        found = next((file for file in allowed if file.is_file()), None)
        stamp = None if found is None else found.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, a NUL
        raise CheckpointError(f"{checkpoint[:200]!r} is no path of a checkpoint: {str(error)[:100]}") from error
    if found is None or stamp is None:
        where = "there is none in that folder" if allowed else "it lies under none of PREMEM_CHECKPOINT_ROOTS"
        raise CheckpointError(f"the service reads no {FILE} of {checkpoint[:200]}: {where}")
    return _read(found, (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=KEPT)
def _read(file: Path, stamp: tuple[int, int]) -> FileTokenizer:
    """`stamp` changes where the file is written anew. Raises CheckpointError."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise CheckpointError(
            "the service has no library to read tokenizers with: pip install 'premem[previews]'"
        ) from None
    try:
        return FileTokenizer(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library knows no kind of its own
        raise CheckpointError(f"{file.name} of {file.parent.name} cannot be read: {str(error)[:200]}") from error
