"""Writes the model card of a checkpoint: what a reader needs to know before using it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from barnraise.contract.archive import repo_id, round_tag
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, AveragedState, Form, HeldOut
from barnraise.contract.spec import DataSpec, Lora, SourceSpec
from barnraise.core.plain_text import blanked, is_plain, yaml_text
from barnraise.core.units import format_rounds
from coordinator.reasons.setup import Redistributable
from coordinator.setup.licences import card_fields, check_licence
from coordinator.store.history import Share

CARD = "README.md"
CURVE = "held-out.svg"
MOST_NAMES = 200
"""Contributors that a card lists."""
_MARKUP = re.compile(r"([\\`*_\[\]~|$@]|:(?=[\w/+-])|(?<=www)\.)", re.IGNORECASE)
_BLOCK = re.compile(r"^(\d*)([.)#>=+-])")
"""What Markdown interprets as markup: anywhere, and at the start of a block."""

OLDEST_TOOLS = {"transformers": "4.46", "peft": "0.13", "huggingface_hub": "0.26"}
"""The oldest tools that published files are written for."""
_EXPORT = "export HF_ENDPOINT=http://HOST:PORT HF_HUB_DISABLE_IMPLICIT_TOKEN=1"
_ENVIRONMENT = """\
`HOST:PORT` is the run's server or a mirror of it; the second variable keeps the client from sending your Hub
token there. Without both, the same commands download what was published on the Hub.
"""


@dataclass(frozen=True)
class Credits:
    """The contributors of a checkpoint."""

    named: tuple[tuple[str, Share], ...]
    """Most tokens first."""
    unnamed: int
    """Volunteers who contributed and are not named."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says about a checkpoint."""

    charter: Charter
    round: int
    tokens: int
    """Tokens folded up to here."""
    state: str
    place: Mapping[str, Any]
    """The fields of a manifest that say where in the log the state is."""
    held_out: HeldOut | None
    first: HeldOut | None
    """Of the base model, where it was evaluated."""
    curve: bool
    """Whether a picture of the held-out loss is next to the card."""
    credits: Credits
    mean_of: tuple[AveragedState, ...] = ()
    """As in `Manifest`."""

    @property
    def tag(self) -> str:
        """Its name among the revisions."""
        return round_tag(self.round, averaged=bool(self.mean_of))

    @property
    def weights(self) -> str:
        """Which state it is."""
        if not self.mean_of:
            return f"state of round {self.round}"
        return f"mean of the states of {format_rounds([each.round for each in self.mean_of])}"


def card(facts: CardFacts, form: Form = "trained") -> str:
    """Markdown after YAML front matter for the Hub. Text of others appears as text, never as markup."""
    if form == "data":
        parts = [_front_matter(_data_fields(facts)), _data(facts)]
    elif form == "base":
        parts = [_front_matter(_base_fields(facts)), _base(facts)]
    else:
        body = [_what(facts, form), _use(facts, form), _training(facts), _contributors(facts)]
        parts = [_front_matter(_model_fields(facts, form)), *body]
    return "\n".join([*parts, _verify(facts, form)])


def plain(text: str) -> str:
    """Untrusted text as Markdown that shows exactly that text, on one line."""
    line = _MARKUP.sub(r"\\\1", blanked(text).replace("&", "&amp;").replace("<", "&lt;"))
    return _BLOCK.sub(r"\1\\\2", line)


def code(text: str) -> str:
    """Untrusted text as inline code."""
    return "`" + ("".join(c for c in text if is_plain(c) and c != "`") or "?") + "`"


def gguf_name(facts: CardFacts) -> str:
    """The file of a checkpoint's gguf form."""
    kind = str(facts.charter.spec.checkpoint.gguf).upper()
    return f"{facts.charter.run}-{facts.tag}-{kind}.gguf"


def lora_name(facts: CardFacts) -> str:
    """The file with the adapter alone. Its name sorts after the model's: some tools take the first file."""
    return f"{facts.charter.run}-{facts.tag}-lora.gguf"


# For the Hub


def _front_matter(fields: dict[str, Any]) -> str:
    lines = [f"{key}: {yaml_text(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _data_fields(facts: CardFacts) -> dict[str, Any]:
    return {**card_fields(facts.charter.spec.data.licence), "task_categories": ["text-generation"]}


def _base_fields(facts: CardFacts) -> dict[str, Any]:
    return {**card_fields(facts.charter.spec.model.licence), "pipeline_tag": "text-generation"}


def _model_fields(facts: CardFacts, form: Form) -> dict[str, Any]:
    spec = facts.charter.spec
    adapter = _is_adapter(facts, form)
    fields: dict[str, Any] = {
        **card_fields(spec.model.licence),
        "library_name": "peft" if adapter else "gguf" if form == "gguf" else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": repo_id(facts.charter, "base"),
        "base_model_relation": "adapter" if adapter else "quantized" if form == "gguf" else "finetune",
        "tags": ["barnraise", "volunteer-training", *(["lora"] if adapter else [])],
    }
    if facts.held_out is not None:
        metric = {"type": "loss", "name": "held-out loss (nats per token)", "value": facts.held_out.loss}
        result = {
            "task": {"type": "text-generation"},
            "dataset": {"name": spec.data.title, "type": "held-out"},
            "metrics": [metric],
        }
        fields["model-index"] = [{"name": f"{spec.name} {facts.tag}", "results": [result]}]
    return fields


def _is_adapter(facts: CardFacts, form: Form) -> bool:
    return form == "trained" and isinstance(facts.charter.spec.train.target, Lora)


# For people


def _base(facts: CardFacts) -> str:
    model = facts.charter.spec.model
    return f"""
# Base model of {facts.charter.run}

A copy of {_source(model.source, model.revision)}, the model that the run starts from.
Licence: {plain(model.licence)}
"""


def _data(facts: CardFacts) -> str:
    data = facts.charter.spec.data
    return f"""
# Data of {facts.charter.run}

The samples that volunteers train on, made from {_data_sources(data)}.
Licence: {plain(data.licence)}

Each line is a sample of {data.sequence_length} tokens, packed from whole documents: as text, as token ids,
and with the labels that are trained on (-100: not). Held-out records are not included.

```python
from datasets import load_dataset

data = load_dataset("{repo_id(facts.charter, "data")}", split="train")
```

after

```sh
{_EXPORT}
```

{_ENVIRONMENT}"""


def _what(facts: CardFacts, form: Form) -> str:
    spec = facts.charter.spec
    description = plain(spec.description) or "A model that volunteers fine-tuned together with Barnraise."
    kind = "all parameters"
    if isinstance(spec.train.target, Lora):
        kind = f"a LoRA adapter of rank {spec.train.target.rank}"
        if form != "trained":
            kind += ", merged into the base model here"
    return f"""
# {spec.name}, round {facts.round}

{description}

- Base model: {_source(spec.model.source, spec.model.revision)} (licence: {plain(spec.model.licence)})
- Data: {_data_sources(spec.data)} (licence: {plain(spec.data.licence)})
- Trained: {kind}, by {plain(spec.train.method)}
- Weights: {facts.weights}
"""


def _lora(facts: CardFacts) -> str:
    if not isinstance(facts.charter.spec.train.target, Lora):
        return ""
    return f"""
`{lora_name(facts)}` is the adapter alone, for `llama-cli -m BASE --lora`, where BASE is the base
model's GGUF file.
"""


def _data_sources(data: DataSpec) -> str:
    return ", ".join(_data_source(source) for source in data.all_sources)


def _data_source(source: SourceSpec) -> str:
    name = _source(source.source, source.revision)
    config = f", configuration {code(source.config)}" if source.config else ""
    weight = f" ({source.weight:g} times)" if source.weight != 1 else ""
    return f"{name}{config}{weight}"


def _source(source: str, revision: str | None) -> str:
    return f"{code(source)} at {code(revision)}" if revision else code(source)


def _use(facts: CardFacts, form: Form) -> str:
    own, tag = repo_id(facts.charter, form), facts.tag
    fetch = f"""## How to use it

```sh
{_EXPORT}
hf download {own} --revision {tag} --local-dir {facts.charter.run}
```

{_ENVIRONMENT}
"""
    if form == "gguf":
        return f"""{fetch}The file is for llama.cpp, Ollama and LM Studio:

```sh
llama-cli -m {facts.charter.run}/{gguf_name(facts)} -cnv
```
{_lora(facts)}"""
    classes = "AutoModelForCausalLM, AutoTokenizer"
    adapter = _is_adapter(facts, form)
    if adapter:
        base, note = _base_for(facts)
        python = f"""from peft import PeftModel
from transformers import {classes}

model = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(model, "{own}", revision="{tag}")"""
    else:
        note = ""
        python = f"""from transformers import {classes}

model = AutoModelForCausalLM.from_pretrained("{own}", revision="{tag}")"""
    return f"""{fetch}```python
{python}
tokenizer = AutoTokenizer.from_pretrained("{own}", revision="{tag}")
```

{note}The path of a downloaded folder works in place of a name. `peer download --format gguf` makes a file for
llama.cpp, Ollama and LM Studio.

{_requirements(adapter)}
"""


def _requirements(adapter: bool) -> str:
    tools = [f"{name} {version}" for name, version in OLDEST_TOOLS.items() if adapter or name != "peft"]
    return (
        f"Requires {', '.join(tools[:-1])} and {tools[-1]} or newer, and a transformers\n"
        "that knows the base model's kind."
    )


def _base_for(facts: CardFacts) -> tuple[str, str]:
    """The base model to load an adapter on, and a note where the run's server does not provide it."""
    model = facts.charter.spec.model
    if isinstance(check_licence(model.licence, "model.licence"), Redistributable):
        return repo_id(facts.charter, "base"), ""
    where = _source(model.source, model.revision)
    return (
        "FOLDER-OF-THE-BASE-MODEL",
        f"The run's server may not redistribute the base model: download it from {where}. ",
    )


def _training(facts: CardFacts) -> str:
    lines = [f"- Rounds: {facts.round}", f"- Tokens trained on: {facts.tokens:,}"]
    if facts.held_out is not None:
        before = f" (the base model: {facts.first.loss:.4f})" if facts.first and facts.round else ""
        lines.append(
            f"- Held-out loss: {facts.held_out.loss:.4f} nats a token{before},"
            f" on {facts.held_out.tokens:,} tokens that were not trained on"
        )
    if facts.place["void"]:
        ranges = ", ".join(f"{first} to {last}" for first, last in facts.place["void"])
        lines.append(f"- Rounds that a rollback made void, and whose work is not in it: {ranges}")
    lines.append(f"- Charter: `{facts.charter.digest}`")
    if facts.curve:
        lines += ["", f"![Held-out loss over the tokens trained on]({CURVE})"]
    return "\n".join(["## How it was trained", "", *lines, ""])


def _contributors(facts: CardFacts) -> str:
    lines = [
        f"- {plain(name)}: {share.tokens:,} tokens in {share.rounds} round{'s' if share.rounds > 1 else ''}"
        for name, share in facts.credits.named[:MOST_NAMES]
    ]
    more = facts.credits.unnamed + max(0, len(facts.credits.named) - MOST_NAMES)
    if not lines and not more:
        return ""
    if more:
        lines.append(f"- and {more} more" if lines else f"- {more} volunteer{'s' if more > 1 else ''}")
    return "\n".join(["## Who trained it", "", *lines, ""])


def _verify(facts: CardFacts, form: Form) -> str:
    how = ""
    if form == "trained":
        end = f"{facts.weights}," if facts.mean_of else "state"
        how = f"""
```sh
peer verify http://HOST:PORT --key {facts.charter.authority}
```

replays the run from its base model and arrives at the {end}
`{facts.state}`, or names what differs.
"""
    return f"""## How to verify it

`{MANIFEST}` lists every file's SHA-256 and is signed by the run's key
`{facts.charter.authority}`.
{how}"""
