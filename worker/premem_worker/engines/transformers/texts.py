"""Tokens into text while they come, the way vLLM does it, so that both engines cut an answer at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


class GrowingText:
    """The text of one answer, without special tokens, up to the first stop string.

    Bytes that are no whole character yet are held back, and dropped if the answer ends with them.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._stop = stop
        # Told of the prompt, since some tokenizers write no space in front of a text's first word.
        self._stream = None if self._backend is None else DecodeStream(ids=list(prompt), skip_special_tokens=True)
        self._tokens = list(prompt)
        self._before = "" if self._backend is not None else self._decoded()

    def append(self, token: int) -> bool:
        """True: a stop string is complete, and the text ends before it."""
        new = self._decode_next(token)
        self.text += new
        if not new:
            return False
        found = [(place + len(stop), place) for stop in self._stop if (place := self._find(stop, len(new))) >= 0]
        if not found:
            return False
        self.text = self.text[: min(found)[1]]
        return True

    def _find(self, stop: str, new: int) -> int:
        return self.text.find(stop, max(0, len(self.text) - new - len(stop) + 1))

    def _decode_next(self, token: int) -> str:
        if self._stream is None:
            self._tokens.append(token)
            whole = self._decoded()
            if whole.endswith("\ufffd"):
                return ""
            return whole[len(self._before) + len(self.text) :]
        try:
            return self._stream.step(self._backend, token) or ""
        except Exception as error:
            if not str(error).startswith("Invalid prefix"):
                raise
            # Some byte sequences change the text before them; the stream starts over behind them, as vLLM's does.
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._backend, token) or ""

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))
