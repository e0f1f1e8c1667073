"""A tokenizer in GGUF: token texts, kinds, merges or scores, and the pre-tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from barnraise.core.errors import UserError
from barnraise.models.causal_lm import unreadable
from barnraise.models.model_config import read_object
from barnraise.models.tokenizer_files import MAX_TOKENIZER_BYTES

TEMPLATE = "chat_template.jinja"
_SPACE = "▁"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS = {
    rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_CONTRACTIONS}|\p{{N}}|{_REST}": "qwen2",
}
"""llama.cpp's name of a pre-tokenizer, by its regular expression."""
_WHOLE_WORDS_FIRST = "llama-bpe"
"""The only pre-tokenizer with which llama.cpp takes words of the vocabulary without merging."""
_AROUND = ("lstrip", "rstrip", "single_word")
"""Settings of an added token that make the text around it matter, which llama.cpp ignores."""
_NO_SCORE = -1e9
"""Of a token that no merge produces: it is never preferred."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer's entries in a GGUF header."""

    model: str
    """`gpt2` for byte-level BPE, `llama` for SentencePiece."""
    cut: str
    """llama.cpp's name of the pre-tokenizer."""
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    scores: list[float]
    special: dict[str, int]
    """Ids by role: bos, eos, unk, pad."""
    add_bos: bool
    add_eos: bool
    add_space: bool
    template: str | None

    @classmethod
    def of(cls, folders: Sequence[Path], size: int) -> Vocabulary:
        """The tokenizer and chat template in the first of `folders` that has them.

        size: rows of the model's embedding. Raises UserError for a tokenizer that cannot be written,
        ModelUnavailable for one that is broken.
        """
        with unreadable(folders[0]):
            return cls._of(folders, size)

    @classmethod
    def _of(cls, folders: Sequence[Path], size: int) -> Vocabulary:
        table = _read(_first(folders, "tokenizer.json"))
        config = _read(_first(folders, "tokenizer_config.json"))
        model = table["model"]
        _check_model(model)
        _check_normalizer(table.get("normalizer"))
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        pieces = bool(model.get("byte_fallback"))
        tokens, kinds = _tokens(table, size, pieces)
        ids = {token: number for number, token in enumerate(tokens)}
        special = {
            role: ids[text]
            for role in ("bos", "eos", "unk", "pad")
            if (text := _text(config.get(f"{role}_token"))) in ids
        }
        return cls(
            model="llama" if pieces else "gpt2",
            cut="default" if pieces else _checked_cut(table),
            tokens=tokens,
            kinds=kinds,
            merges=[] if pieces else [" ".join(pair) for pair in merges],
            scores=_scores(tokens, merges) if pieces else [],
            special=special,
            add_bos=_adds(table.get("post_processor"), special.get("bos"), 0),
            add_eos=_adds(table.get("post_processor"), special.get("eos"), -1),
            add_space=pieces and _adds_space(table),
            template=_template(_first(folders, TEMPLATE), config),
        )

    def write(self, writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.model == "gpt2":
            # `add_token_merges` leaves an empty list out.
            kinds = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING
            writer.add_key_value(gguf.Keys.Tokenizer.MERGES, self.merges, *kinds)
        roles = {
            "bos": writer.add_bos_token_id,
            "eos": writer.add_eos_token_id,
            "unk": writer.add_unk_token_id,
            "pad": writer.add_pad_token_id,
        }
        for role, number in self.special.items():
            roles[role](number)
        writer.add_add_bos_token(self.add_bos)
        if self.add_eos:
            writer.add_add_eos_token(True)
        writer.add_add_space_prefix(self.add_space)
        if self.template is not None:
            writer.add_chat_template(self.template)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, MAX_TOKENIZER_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(
            f"GGUF needs the tokenizer in {path.name}, which cannot be read: {error}",
            fix="Use a checkpoint with a fast tokenizer, or the safetensors instead.",
        ) from None


def _unknown(why: str) -> UserError:
    return UserError(
        f"llama.cpp would tokenize text differently: {why}",
        fix="Use the safetensors instead; supported: Llama 2 and 3, SmolLM, Qwen 2 and GPT-2.",
    )


def _tokens(table: dict[str, Any], size: int, pieces: bool) -> tuple[list[str], list[int]]:
    """Texts and kinds of `size` tokens; unused ids get a placeholder text."""
    tokens = [f"[UNUSED{number}]" for number in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    known = [(text, number, gguf.TokenType.NORMAL) for text, number in table["model"]["vocab"].items()]
    for added in table.get("added_tokens", ()):
        if setting := next((name for name in _AROUND if added.get(name)), None):
            raise _unknown(f"its token {added['content']!r} has {setting}")
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        known.append((added["content"], added["id"], kind))
    for text, number, kind in known:
        if number >= size:
            raise _unknown(f"token {number} is beyond the model's {size}")
        if pieces and kind == gguf.TokenType.NORMAL and len(text) == 6 and text.startswith("<0x"):
            kind = gguf.TokenType.BYTE
        if pieces and text == table["model"].get("unk_token"):
            kind = gguf.TokenType.UNKNOWN
        tokens[number], kinds[number] = text, int(kind)
    return tokens, kinds


def _check_model(model: dict[str, Any]) -> None:
    if model.get("type") != "BPE":
        raise _unknown(f"its model is {model.get('type')}, not BPE")
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            raise _unknown(f"its {setting} is {model[setting]!r}")


def _check_normalizer(found: dict[str, Any] | None) -> None:
    """llama.cpp does not normalize text, except for SentencePiece's spaces."""
    for step in _steps(found, "normalizers"):
        kind, content = step.get("type"), step.get("content", step.get("prepend"))
        if kind != "NFC" and not (kind in ("Prepend", "Replace") and content == _SPACE):
            raise _unknown(f"its normalizer is {json.dumps(step)[:200]}")


def _checked_cut(table: dict[str, Any]) -> str:
    cut = _cut(table.get("pre_tokenizer"))
    if table["model"].get("ignore_merges") and cut != _WHOLE_WORDS_FIRST:
        raise _unknown("its ignore_merges is set")
    return cut


def _cut(found: dict[str, Any] | None) -> str:
    """llama.cpp's name for a byte-level pre-tokenizer. Raises UserError where it has none."""
    steps = found["pretokenizers"] if found and found["type"] == "Sequence" else [found] if found else []
    if any(step.get("add_prefix_space") for step in steps):
        raise _unknown("it puts a space before each text")
    match [(step["type"], step.get("use_regex", True)) for step in steps]:
        case [("ByteLevel", True)]:
            return "gpt-2"
        case [("Digits", _), ("ByteLevel", True)] if steps[0]["individual_digits"]:
            return "smollm"
        case [("Split", _), ("ByteLevel", False)]:
            expression = steps[0]["pattern"].get("Regex", "")
            if expression in _CUTS:
                return _CUTS[expression]
    raise _unknown(f"its pre-tokenizer is {json.dumps(found)[:200]}")


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Minus the rank of the merge: SentencePiece prefers the highest score, BPE the first merge."""
    rank: dict[str, int] = {}
    for number, pair in enumerate(merges):
        rank.setdefault("".join(pair), number)
    return [-float(rank[token]) if token in rank else _NO_SCORE for token in tokens]


def _adds(processor: dict[str, Any] | None, token: int | None, place: int) -> bool:
    """Whether encoding a text puts `token` at its start (place 0) or its end (place -1)."""
    for step in _steps(processor, "processors"):
        around: dict[str, Any] = (step.get("single") or [{}])[place]
        name = around.get("SpecialToken", {}).get("id")
        if token is not None and name and token in step["special_tokens"][name]["ids"]:
            return True
    return False


def _adds_space(table: dict[str, Any]) -> bool:
    """Whether a text gets a space before it, as SentencePiece does."""
    for step in _steps(table.get("normalizer"), "normalizers"):
        if step.get("type") == "Prepend" and step.get("prepend") == _SPACE:
            return True
    cuts = _steps(table.get("pre_tokenizer"), "pretokenizers")
    return any(step.get("prepend_scheme") in ("always", "first") for step in cuts)


def _steps(found: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if not found:
        return []
    return list(found[inner]) if found["type"] == "Sequence" else [found]


def _text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _template(file: Path, config: dict[str, Any]) -> str | None:
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    return found if isinstance(found, str) else None


def _first(folders: Sequence[Path], name: str) -> Path:
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[-1] / name)
