"""Names the base model where its tokenizer fails on a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from barnraise.core.errors import DatasetError
from barnraise.models.causal_lm import first_words

_PANIC = "PanicException"
"""Of Rust: no Exception, and its type is in no module. tokenizers raises it where a regular expression of
tokenizer.json tries too many ways to match."""


@contextmanager
def tokenizer_faults() -> Iterator[None]:
    """Raise DatasetError where the tokenizers library panics."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise DatasetError(
            f"the base model's tokenizer fails on a text: {first_words(error)}",
            fix="Use another base model, or another revision: a pattern in its tokenizer.json is at fault.",
        ) from None
