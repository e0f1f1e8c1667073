"""Chat templates that write what those of known families do, written from their formats, and their tokens."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from coordinator.dataset.rendering.chat_templates import ChatTemplate, builtin_text
from coordinator.dataset.rendering.render import Renderer

SPECIAL = (
    "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]",
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>",
    "<|return|>", "<|call|>", "<start_of_turn>", "<end_of_turn>", "<｜User｜>", "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>",
)  # fmt: skip


def unmarked(name: str) -> str:
    """A built-in template as its family publishes it: without generation marks."""
    return ChatTemplate(builtin_text(name), f"built-in {name}", {}).published


QWEN_TOOLS = (
    "{%- if tools %}{{ '<|im_start|>system\\n# Tools\\n' + tools | tojson + '<|im_end|>\\n' }}{% endif %}"
    "{%- for m in messages %}{{ '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' }}"
    "{{- m.content }}"
    "{%- for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function | tojson + '</tool_call>' }}"
    "{%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MISTRAL = (
    "{%- set system = messages[0].content if messages[0].role == 'system' else '' %}{{ bos_token }}"
    "{%- for m in (messages[1:] if system else messages) %}"
    "{%- if m.role not in ('user', 'assistant', 'tool') %}{{ raise_exception('Only user and assistant') }}"
    "{%- elif m.role == 'user' %}{{ '[INST] ' + (system + '\\n\\n' if loop.last and system else '') }}"
    "{{- m.content + '[/INST]' }}"
    "{%- elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for call in m.tool_calls %}"
    "{%- if not call.id is defined or call.id | length != 9 %}{{ raise_exception('Tool call IDs') }}"
    "{%- endif %}"
    "{{- call.function | tojson }}{% endfor %}{{ ']' + eos_token }}"
    "{%- elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}"
    "{%- else %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{%- endif %}{% for m in messages %}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{%- endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
    "{{- m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
SMOLLM3 = (
    "{{- '<|im_start|>system\\nToday Date: ' + strftime_now('%d %B %Y') + '\\n' }}"
    "{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{{ '<|im_end|>\\n' }}"
    "{%- for m in messages %}{% if m.role in ('user', 'tool') %}"
    "{{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- elif m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"
    "{%- generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PHI4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
FAMILIES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "ChatML": (unmarked("chatml"), ("<|im_end|>",)),
    "SmolLM2": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are SmolLM.<|im_end|>\\n' }}"
        "{% endif %}" + unmarked("chatml"),
        ("<|im_end|>",),
    ),
    "SmolLM3": (SMOLLM3, ("<|im_end|>",)),
    "Qwen 2.5": (QWEN_TOOLS, ("<|im_end|>", "<|endoftext|>")),
    "Qwen 3": (unmarked("qwen3"), ("<|im_end|>", "<|endoftext|>")),
    "Llama 3": (unmarked("llama3"), ("<|eot_id|>",)),
    "Gemma 1 and 2": (GEMMA, ("<end_of_turn>",)),
    "Gemma 3": (unmarked("gemma"), ("<end_of_turn>",)),
    "Phi-3": (unmarked("phi3"), ("<|endoftext|>", "<|end|>")),
    "Phi-4": (PHI4, ("<|im_end|>",)),
    "Phi-4-mini": (unmarked("phi4-mini"), ("<|endoftext|>", "<|end|>")),
    "gpt-oss": (unmarked("gpt-oss"), ("<|return|>", "<|call|>")),
    "DeepSeek V3 and R1": (unmarked("deepseek"), ("<｜end▁of▁sentence｜>",)),
    "Mistral": (MISTRAL, ("</s>",)),
    "a base model without a template": (None, ("</s>",)),
}
"""Template, and end-of-sequence tokens, of which the first is the tokenizer's."""


def family_tokenizer(template: str | None, eos: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and of the special tokens of all families."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token=eos)
    tokenizer.chat_template = template
    return tokenizer


def family_renderer(name: str, chat_template: str | Path | None = None) -> Renderer:
    """The renderer of a model of a family."""
    template, ends = FAMILIES[name]
    tokenizer = family_tokenizer(template, ends[0])
    ids = frozenset(tokenizer.convert_tokens_to_ids(list(ends)))
    return Renderer(tokenizer, ids, str(chat_template) if chat_template else None)
