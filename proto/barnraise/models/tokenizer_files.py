"""A model's tokenizer, from files that are bounded and reduced before a library reads them.

transformers takes more from tokenizer_config.json than a tokenizer needs: the name of any of its classes,
whose loader it calls, of code, and of other files. So it reads a copy that has the known settings alone.
"""

from __future__ import annotations

import json
import re
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from barnraise.models.model_config import CONFIG, MAX_JSON_BYTES, load_config, read_object

MAX_TOKENIZER_BYTES = 2**27
"""Of tokenizer.json and other lists of tokens: the largest have 35 MB."""
MAX_ADDED_TOKENS = 2**18
"""Tokens beyond the vocabulary's; the largest known have 7,000."""
MAX_GROWTH = 128
"""Times that a tokenizer's parts lengthen a text at most. Known ones put in single characters, or Unicode's
compatible forms of at most 18, and write a character for each byte once."""
MAX_PART_BYTES = 2**20
"""Of the part of tokenizer.json that adds special tokens; the largest known have some kB."""
_LISTS = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_SETTINGS = "tokenizer_config.json"
_OBJECTS = (_SETTINGS, "special_tokens_map.json", "added_tokens.json")
_TEMPLATES = ("chat_template.jinja", "additional_chat_templates/*.jinja")
MAX_TEMPLATES = 64
_KEPT = frozenset(
    (
        "tokenizer_class", "model_max_length", "model_input_names", "chat_template", "backend",
        "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens",
        "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
        "model_specific_special_tokens", "add_prefix_space", "add_dummy_prefix_space", "add_bos_token",
        "add_eos_token", "legacy", "use_default_system_prompt", "spaces_between_special_tokens", "errors",
        "do_lower_case", "strip_accents", "tokenize_chinese_chars", "remove_space", "keep_accents",
        "trim_offsets", "do_basic_tokenize", "never_split", "fix_mistral_regex",
    )
)  # fmt: skip
_TOKEN = re.compile(r"\w+_token(_id)?")
"""The names of single special tokens."""


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, without code of its own, padding or truncation.

    Raises ValueError for files that are larger than a tokenizer's, OSError, and what transformers raises.
    """
    from transformers import AutoTokenizer

    check_tokenizer(folder)
    # transformers reads the config where no class is named, and would make what that claims
    config = {"config": load_config(folder)} if (folder / CONFIG).is_file() else {}
    for each in config.values():
        each.tokenizer_class = _known_class(getattr(each, "tokenizer_class", None))
    with tempfile.TemporaryDirectory(prefix="barnraise-tokenizer-") as copy:
        _write_reduced(folder, Path(copy))
        tokenizer = AutoTokenizer.from_pretrained(
            copy, local_files_only=True, trust_remote_code=False, **config
        )
    tokenizer.name_or_path = str(folder)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_padding()
        backend.no_truncation()
        _check_parts(backend)
    return tokenizer


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError for files that are larger than a tokenizer's, or hold more added tokens."""
    for name in _LISTS:
        path = folder / name
        if path.is_file() and path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ValueError(f"{name} is longer than {MAX_TOKENIZER_BYTES:,} bytes")
    for name in _OBJECTS:
        if not (folder / name).is_file():
            continue
        table = read_object(folder / name, 4 * MAX_JSON_BYTES)
        added = table if name == "added_tokens.json" else table.get("added_tokens_decoder")
        if isinstance(added, dict) and len(added) > MAX_ADDED_TOKENS:
            raise ValueError(f"{name} adds {len(added):,} tokens; the most is {MAX_ADDED_TOKENS:,}")


def reduced_settings(table: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json with the settings of a tokenizer alone."""
    found = {key: value for key, value in table.items() if key in _KEPT or _TOKEN.fullmatch(key)}
    if "tokenizer_class" in found:
        found["tokenizer_class"] = _known_class(found["tokenizer_class"])
    return found


def _known_class(name: object) -> str | None:
    """The name of a tokenizer's class; None for that of another class, which transformers would load too."""
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if not isinstance(name, str) or not re.fullmatch(r"\w{1,100}", name):
        return None
    found = tokenizer_class_from_name(name)
    return name if isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase) else None


def _write_reduced(folder: Path, copy: Path) -> None:
    """Links to the files of a tokenizer, and its settings reduced."""
    for name in (*_LISTS, *_OBJECTS[1:]):
        if (folder / name).is_file():
            (copy / name).symlink_to((folder / name).absolute())
    templates = [path for pattern in _TEMPLATES for path in sorted(folder.glob(pattern))]
    for path in templates[:MAX_TEMPLATES]:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path.name} is longer than {MAX_JSON_BYTES:,} bytes")
        link = copy / path.relative_to(folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path.absolute())
    if (folder / _SETTINGS).is_file():
        table = reduced_settings(read_object(folder / _SETTINGS, 4 * MAX_JSON_BYTES))
        (copy / _SETTINGS).write_text(json.dumps(table), encoding="utf-8")


def _check_parts(backend: Any) -> None:
    """Raise ValueError where a text becomes much longer before it is cut into tokens, or by tokens added."""
    growth = 1.0
    for part in (*_parts(_state(backend.normalizer)), *_parts(_state(backend.pre_tokenizer))):
        growth *= _growth(part)
        if growth > MAX_GROWTH:
            raise ValueError(f"its tokenizer makes a text more than {MAX_GROWTH} times as long")
    if len(json.dumps(_state(backend.post_processor))) > MAX_PART_BYTES:
        raise ValueError(f"its tokenizer adds more than {MAX_PART_BYTES:,} bytes of special tokens")


def _state(part: Any) -> Any:
    """A part of a tokenizer as tokenizer.json has it."""
    return None if part is None else json.loads(part.__getstate__())


def _parts(state: Any) -> Iterator[Mapping[str, Any]]:
    """A part, or those that it consists of."""
    if not isinstance(state, dict):
        return
    inner = state.get("normalizers", state.get("pretokenizers"))
    if inner is None:
        yield state
    for each in inner or ():
        yield from _parts(each)


def _growth(part: Mapping[str, Any]) -> float:
    """How many times as long a text can become by a part, in characters."""
    match part:
        case {"type": "Replace", "content": content, "pattern": {"String": pattern}} if pattern:
            return float(max(1.0, len(content) / len(pattern)))
        case {"type": "Replace", "content": content} | {"type": "Prepend", "prepend": content}:
            return 1.0 + len(content)
        case {"type": "ByteLevel"}:
            return 4.0  # a character for each byte
        case {"type": "BertNormalizer"}:
            return 3.0  # spaces around Chinese characters
        case {"type": "Precompiled", "precompiled_charsmap": str(charsmap)}:
            return _longest_replacement(b64decode(charsmap))
        case _:
            return 1.0


def _longest_replacement(charsmap: bytes) -> float:
    """Characters of the longest text that SentencePiece's table puts in the place of one.

    The texts are behind a trie, whose size is first, and each ends with a zero byte.
    """
    texts = charsmap[4 + int.from_bytes(charsmap[:4], "little") :].decode(errors="replace")
    return float(max(1, *map(len, texts.split("\0"))))
