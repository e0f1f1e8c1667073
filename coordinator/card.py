"""The model card of a checkpoint: what a stranger needs to know before using it. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from barnraise.archive import repo_id, round_tag
from barnraise.manifest import MANIFEST, Form, HeldOut
from barnraise.spec import Charter, Lora
from coordinator.credits import Credits

CARD = "README.md"
CURVE = "held-out.svg"
MOST_NAMES = 200
"""Contributors that a card lists."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+.!|~>-])")


@dataclass(frozen=True)
class CardFacts:
    charter: Charter
    round: int
    tokens: int
    """Tokens folded up to here."""
    state: str
    previous: str
    """Head of the log, as in the manifest."""
    held_out: HeldOut | None
    first: HeldOut | None
    """Of the base model, where it was evaluated."""
    curve: bool
    """Whether there is a picture of the held-out loss beside the card."""
    credits: Credits


def card(facts: CardFacts, form: Form = "trained") -> str:
    """Markdown with the front matter that the Hub reads. Others' text stands in it as text, never as markup."""
    if form in ("base", "data"):
        parts = [_front_matter(facts, form), _source(facts, form)]
    else:
        use, training = _use(facts, form), _training(facts, form)
        parts = [_front_matter(facts, form), _what(facts, form), use, training, _contributors(facts)]
    return "\n".join([*parts, _verify(facts, form)])


def plain(text: str) -> str:
    """Somebody's text as Markdown that shows just that, on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _MARKDOWN.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def code(text: str) -> str:
    """Somebody's text between backticks."""
    return "`" + "".join(c for c in text if c.isprintable() and c != "`") + "`"


def _front_matter(facts: CardFacts, form: Form) -> str:
    spec = facts.charter.spec
    fields: dict[str, Any]
    if form == "data":
        fields = {"license": spec.data.licence.lower(), "task_categories": ["text-generation"]}
    elif form == "base":
        fields = {"license": spec.model.licence.lower(), "pipeline_tag": "text-generation"}
    else:
        fields = _model_fields(facts, form)
    # JSON is YAML, and cannot be broken out of.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _model_fields(facts: CardFacts, form: Form) -> dict[str, Any]:
    spec = facts.charter.spec
    adapter = isinstance(spec.train.target, Lora) and form == "trained"
    relation = "adapter" if adapter else "quantized" if form == "gguf" else "finetune"
    fields: dict[str, Any] = {
        "library_name": "peft" if adapter else "gguf" if form == "gguf" else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": repo_id(facts.charter, "base"),
        "base_model_relation": relation,
        "tags": ["barnraise", "volunteer-training", *(["lora"] if adapter else [])],
    }
    if spec.model.licence != "unknown":
        fields["license"] = spec.model.licence.lower()
    if facts.held_out is not None:
        metric = {"type": "loss", "name": "held-out loss (nats per token)", "value": facts.held_out.loss}
        task = {"type": "text-generation"}
        dataset = {"name": spec.data.source, "type": "held-out"}
        result = {"task": task, "dataset": dataset, "metrics": [metric]}
        fields["model-index"] = [{"name": f"{spec.name} {round_tag(facts.round)}", "results": [result]}]
    return fields


def _source(facts: CardFacts, form: Form) -> str:
    spec = facts.charter.spec
    if form == "base":
        revision = f" at {code(spec.model.revision)}" if spec.model.revision else ""
        return f"""
# Base model of {spec.name}

A copy of {code(spec.model.source)}{revision}, from which the run starts. Licence: {plain(spec.model.licence)}
"""
    return f"""
# Data of {spec.name}

What volunteers train on, out of {code(spec.data.source)}: samples of {spec.data.sequence_length} tokens, packed from
whole documents, as text, as token ids, and with the labels that are trained on (-100: not). What is held out is not
among them. Licence: {plain(spec.data.licence)}

```python
from datasets import load_dataset

data = load_dataset("{repo_id(facts.charter, "data")}", split="train")
```
"""


def _what(facts: CardFacts, form: Form) -> str:
    spec = facts.charter.spec
    about = plain(spec.description) or "A model that volunteers fine-tuned together with Barnraise."
    adapter = isinstance(spec.train.target, Lora)
    kind = "LoRA adapter" if adapter else "all parameters"
    if adapter and form != "trained":
        kind += ", merged into the base model here"
    revision = f" at {code(spec.model.revision)}" if spec.model.revision else ""
    return f"""
# {spec.name}, round {facts.round}

{about}

- Base model: {code(spec.model.source)}{revision} (licence: {plain(spec.model.licence)})
- Data: {code(spec.data.source)} (licence: {plain(spec.data.licence)})
- Trained: {kind}, by {plain(spec.train.method)}
"""


def _use(facts: CardFacts, form: Form) -> str:
    own, base = repo_id(facts.charter, form), repo_id(facts.charter, "base")
    tag = round_tag(facts.round)
    if form == "gguf":
        return f"""## How to use it

The file is for llama.cpp, Ollama and LM Studio:

```sh
HF_ENDPOINT=http://HOST:PORT HF_HUB_DISABLE_IMPLICIT_TOKEN=1 hf download {own} --revision {tag} --local-dir .
llama-cli -m {gguf_name(facts)} -cnv
```
"""
    if isinstance(facts.charter.spec.train.target, Lora) and form == "trained":
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
        load = (
            f'model = AutoModelForCausalLM.from_pretrained("{base}")\n'
            f'model = PeftModel.from_pretrained(model, "{own}", revision="{tag}")'
        )
    else:
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        load = f'model = AutoModelForCausalLM.from_pretrained("{own}", revision="{tag}")'
    return f"""## How to use it

From the run's own server, with the tools of the Hugging Face Hub. The second variable keeps your Hub token yours.

```sh
export HF_ENDPOINT=http://HOST:PORT HF_HUB_DISABLE_IMPLICIT_TOKEN=1
hf download {own} --revision {tag}
```

```python
{imports}

{load}
tokenizer = AutoTokenizer.from_pretrained("{own}", revision="{tag}")
```

The path of a downloaded folder can take the place of a name. `peer download --format gguf` makes a file for
llama.cpp, Ollama and LM Studio.
"""


def gguf_name(facts: CardFacts) -> str:
    """The file of a checkpoint's gguf form."""
    return (
        f"{facts.charter.run}-{round_tag(facts.round)}-{str(facts.charter.spec.checkpoint.gguf).upper()}.gguf"
    )


def _training(facts: CardFacts, form: Form) -> str:
    lines = [f"- Rounds: {facts.round}", f"- Tokens trained on: {facts.tokens:,}"]
    if facts.held_out is not None:
        before = f" (the base model: {facts.first.loss:.4f})" if facts.first and facts.round else ""
        lines.append(
            f"- Held-out loss: {facts.held_out.loss:.4f} nats a token{before},"
            f" on {facts.held_out.tokens:,} tokens that nobody trained on"
        )
    lines.append(f"- Run spec: `{facts.charter.spec.digest()}`")
    picture = (
        f"\n![Held-out loss over the tokens trained on]({CURVE})\n"
        if facts.curve and form == "trained"
        else ""
    )
    return "\n".join(["## How it was trained", "", *lines, picture])


def _contributors(facts: CardFacts) -> str:
    lines = [
        f"- {plain(name)}: {share.tokens:,} tokens in {share.rounds} round{'s' if share.rounds > 1 else ''}"
        for name, share in facts.credits.named[:MOST_NAMES]
    ]
    more = facts.credits.unnamed + max(0, len(facts.credits.named) - MOST_NAMES)
    if more:
        lines.append(f"- {'and ' if lines else ''}{more} more")
    if not lines:
        return ""
    return "\n".join(["## Who trained it", "", *lines, ""])


def _verify(facts: CardFacts, form: Form) -> str:
    how = ""
    if form == "trained":
        how = (
            f"`peer verify` replays the run from its base model and comes to the state\n`{facts.state}`,"
            " or names what differs.\n"
        )
    return f"""## How to verify it

`{MANIFEST}` lists every file's SHA-256 and is signed by the run's key
`{facts.charter.authority}`.
{how}"""
