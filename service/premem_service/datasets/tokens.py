"""What a checkpoint's tokenizer makes of prompt and target, for a look at them before anything is scored.

Its files are enough for that: neither torch nor transformers is needed here. Workers hold theirs to the same reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from premem.errors import CheckpointError
from premem.method.spans import closing_tokens, split_target
from premem.roots import lying_under
from premem.tokenizer_files import FILES, WHOLE, read_tokenizer
from premem.wire.previews import PreviewTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEPT = 4
"""A large vocabulary takes a second to read, and tens of megabytes of memory."""


class FileTokenizer:
    """A tokenizer out of its file, in the way in which workers' tokenizers are asked (premem.method.spans.Tokenizer)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
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
        allowed = lying_under(Path(checkpoint), roots)
        found = next((folder for folder in allowed if (folder / WHOLE).is_file()), None)
        files = [] if found is None else [found / name for name in FILES if (found / name).is_file()]
        lies_outside = any(not lying_under(file, roots) for file in files)  # a link may lead there
        stamp = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, a NUL
        raise CheckpointError(f"{checkpoint[:200]!r} is no path of a checkpoint: {str(error)[:100]}") from error
    if found is None or lies_outside:
        where = "there is none in that folder"
        if lies_outside or not allowed:
            where = "it lies under none of PREMEM_CHECKPOINT_ROOTS"
        raise CheckpointError(f"the service reads no {WHOLE} of {checkpoint[:200]}: {where}")
    return _read(found, stamp)


@lru_cache(maxsize=KEPT)
def _read(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> FileTokenizer:
    """`stamp` changes where a file is written anew. Raises CheckpointError."""
    try:
        return FileTokenizer(read_tokenizer(folder))
    except ImportError:
        raise CheckpointError(
            "the service has no library to read tokenizers with: pip install 'premem-service[previews]'"
        ) from None
    except CheckpointError as error:
        # Where the service keeps its checkpoints is nobody's business who asks for a preview.
        raise CheckpointError(str(error).replace(str(folder.parent), "").lstrip("/")) from error
