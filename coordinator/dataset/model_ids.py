"""The ids that a model and its tokenizer have: the vocabulary, padding, ends of sequences, positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from barnraise.core.errors import DatasetError, ModelUnusable
from barnraise.models.causal_lm import first_words
from barnraise.models.model_config import load_config, read_object
from barnraise.models.tokenizer_files import load_tokenizer
from coordinator.dataset.pack import Document

_FIX_MODEL = "Give a base model whose folder holds a complete tokenizer, with tokenizer.json."
_FIX_FILE = "Correct the file, or get the complete model again."
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json", "spiece.model", "vocab.json",
    "vocab.txt",
)  # fmt: skip
"""Files that a tokenizer may consist of."""
_POSITION_FIELDS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx",
)  # fmt: skip
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


@dataclass(frozen=True)
class Positions:
    """The positions that a model knows."""

    count: int
    rotary: bool
    """Rotary positions can be computed beyond `count`, where the model was not trained; others cannot."""


@dataclass(frozen=True)
class ModelIds:
    """What limits the token ids and positions of a model's samples."""

    vocab_size: int
    """Rows of the embedding. It may be larger than the tokenizer."""
    pad_id: int
    """Fills samples; it is below `vocab_size`, and nothing trains on it or attends to it."""
    ends: frozenset[int]
    """Ids that end a generated answer: the tokenizer's, and those of config.json and
    generation_config.json."""
    positions: Positions | None
    """None where the model has no limit."""
    highest_id: int
    """The tokenizer's highest id, which may be beyond the embedding."""


def open_tokenizer(folder: Path) -> tuple[Any, ModelIds]:
    """The folder's tokenizer, with an end-of-sequence token where the folder names one; and the ids.

    Raises ModelUnusable where a file cannot be read.
    """
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelUnusable(
            f"the model in {folder} has no tokenizer: neither tokenizer.json nor another file of one",
            fix=_FIX_MODEL,
        )
    if not (folder / "tokenizer.json").is_file() and (folder / "tokenizer.model").is_file():
        raise ModelUnusable(
            f"the tokenizer in {folder} is there as tokenizer.model alone, without the tokenizer.json that is"
            " made from it",
            fix="Use a copy of the model with tokenizer.json, or write it where `sentencepiece` or `tiktoken`"
            " is installed: `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`.",
        )
    _check_tokenizer_json(folder / "tokenizer.json")
    try:
        tokenizer = load_tokenizer(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise ModelUnusable(
            f"the tokenizer in {folder} cannot be read: {first_words(error)}", fix=_FIX_MODEL
        ) from None
    config = _text_config(folder)
    named = [end for end in _named_ends(folder) if end in tokenizer.added_tokens_decoder]
    if tokenizer.eos_token_id is None and named:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(named[0])
    ends = frozenset(end for end in (tokenizer.eos_token_id, *named) if end is not None)
    highest = max(tokenizer.get_vocab().values(), default=0)
    vocab_size = _vocab_size(folder, config) or highest + 1
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    ids = ModelIds(
        vocab_size=vocab_size,
        pad_id=next(id for id in candidates if id is not None and id < vocab_size),
        ends=ends,
        positions=_positions(config),
        highest_id=highest,
    )
    return tokenizer, ids


def _check_tokenizer_json(path: Path) -> None:
    from tokenizers import Tokenizer

    if path.is_file():
        try:
            Tokenizer.from_file(str(path))
        except Exception as error:
            if type(error) is not Exception:  # the library raises no type of its own
                raise
            raise ModelUnusable(f"{path} cannot be read: {first_words(error)}", fix=_FIX_MODEL) from None


def check_length(ids: ModelIds, sequence_length: int) -> None:
    """Raises DatasetError where samples of this length have positions that the model cannot compute."""
    positions = ids.positions
    if positions is not None and not positions.rotary and sequence_length > positions.count:
        raise DatasetError(
            f"`sequence_length` is {sequence_length:,}, and the model has only {positions.count:,} positions",
            fix=f"Set `sequence_length` under [data] to {positions.count} or less.",
        )


def check_tokens(tokenizer: Any, ids: ModelIds, document: Document, where: str) -> None:
    """Raises DatasetError where a document holds a token that the model's embedding has no row for."""
    if ids.highest_id < ids.vocab_size or (highest := int(document.input_ids.max())) < ids.vocab_size:
        return
    token = tokenizer.convert_ids_to_tokens(highest)
    raise DatasetError(
        f"{where}: the token {token!r} has the id {highest}, and the model's embedding has only "
        f"{ids.vocab_size} rows, so no volunteer could train on it",
        fix="Resize the embedding (`model.resize_token_embeddings(len(tokenizer))` in transformers) and save "
        f"the model, or remove {token!r} from the tokenizer.",
    )


def _text_config(folder: Path) -> Any:
    """The config of the model's text part; None where there is no config.json."""
    if not (folder / "config.json").exists():
        return None
    try:
        config = load_config(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnusable(f"{folder / 'config.json'} cannot be read: {error}", fix=_FIX_MODEL) from None
    return config.get_text_config()


def _named_ends(folder: Path) -> Iterator[int]:
    """The end-of-sequence ids that the model's files name: config.json may do so for its text part."""
    config = _table(folder / "config.json")
    parts = [part for part in config.values() if isinstance(part, dict)]
    for table in (_table(folder / "generation_config.json"), config, *parts):
        ends = table.get("eos_token_id")
        for end in ends if isinstance(ends, list) else [ends]:
            if isinstance(end, int):
                yield end


def _vocab_size(folder: Path, config: Any) -> int | None:
    """Rows of the embedding, as the config or else the weights have it."""
    if isinstance(size := getattr(config, "vocab_size", None), int):
        return size
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    if name.endswith(_EMBEDDINGS):
                        return int(tensors.get_slice(name).get_shape()[0])
        except (OSError, SafetensorError) as error:
            raise ModelUnusable(f"{file} cannot be read: {error}", fix=_FIX_MODEL) from None
    return None


def _positions(config: Any) -> Positions | None:
    found = (getattr(config, name, None) for name in _POSITION_FIELDS)
    count = next((number for number in found if isinstance(number, int) and number > 0), None)
    if count is None:
        return None
    rope = getattr(config, "rope_parameters", None)
    return Positions(max(count, _scaled(rope)), rotary=bool(rope))


def _scaled(rope: object) -> int:
    """The positions that a scaled rotary embedding was made for; 0 without scaling."""
    if not isinstance(rope, dict):
        return 0
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    return int(original * factor) if original and factor else 0


def _table(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the model has no such file. Raises ModelUnusable."""
    if not path.exists():
        return {}
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}", fix=_FIX_FILE) from None
