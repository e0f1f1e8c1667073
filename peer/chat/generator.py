"""Text generation by a checkpoint and its base model, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GenerationConfig, TextStreamer, set_seed

from barnraise.core.errors import UserError
from barnraise.models.causal_lm import Attention, load, model_shape, quiet, unreadable
from barnraise.models.lora_files import ADAPTER_CONFIG, LoraFiles
from barnraise.models.merge import Weights
from peer.chat.text_process import Message, TextProcess
from peer.training.device import Device, memory_limit

Side = Literal["base", "checkpoint"]


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, the same for both sides."""

    max_tokens: int
    """Maximum length of an answer."""
    temperature: float
    """0: greedy decoding."""
    seed: int


class ContextExceeded(UserError):
    """The conversation is longer than the model's context."""


class Generator:
    """A checkpoint and, where given, its base model, on one device."""

    def __init__(
        self, checkpoint: Path, base: Path | None, device: Device, attention: Attention = "auto"
    ) -> None:
        """checkpoint: a folder with an adapter or a whole model. base: its base model. attention: its run's.

        A whole model needs no base: then only the side `checkpoint` can answer.
        Raises ModelUnavailable, UserError if adapter and base do not fit, TooLargeForMemory.
        """
        self._text = TextProcess(checkpoint)  # it loads while the model does
        self._device = torch.device(device.torch_device)
        if self._device.type == "cpu":
            torch.set_num_threads(device.threads)
        self._adapter = (checkpoint / ADAPTER_CONFIG).is_file()
        with memory_limit(self._device, "the model"):
            if self._adapter and base is not None:
                Weights.of(base, checkpoint)  # raises if they do not fit; peft would add what is missing
                model = _adapted(_loaded(base, device, attention), checkpoint)
                self._models: dict[Side, Any] = {"base": model, "checkpoint": model}
            else:
                self._models = {"checkpoint": _loaded(checkpoint, device, attention)}
                if base is not None:
                    self._models["base"] = _loaded(base, device, attention)
            self._models = {side: model.to(self._device).eval() for side, model in self._models.items()}
        self._text.wait()
        self._ends = self._find_ends()

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template; without one, the model continues a text."""
        return self._text.has_template

    def answer(
        self, side: Side, messages: Sequence[Message], sampling: SamplingParams, write: Callable[[str], None]
    ) -> str:
        """The answer of `side` to a conversation; without a template, the continuation of its last text.

        write: receives the answer piece by piece. Raises ContextExceeded.
        """
        ids = self._ids(messages)
        model = self._models[side]
        context = model.config.max_position_embeddings
        if ids.shape[1] >= context:
            raise ContextExceeded(
                f"the conversation has {ids.shape[1]} tokens, and the model's context has {context}",
                fix="Start a new conversation with /reset, or write less.",
            )
        sampled = {"temperature": sampling.temperature} if sampling.temperature else {}
        settings = GenerationConfig(
            max_new_tokens=min(sampling.max_tokens, context - ids.shape[1]),
            do_sample=sampling.temperature > 0,
            eos_token_id=sorted(self._ends),
            pad_token_id=self._text.pad,
            **sampled,
        )
        set_seed(sampling.seed)
        with torch.inference_mode(), quiet(), self._as(side), memory_limit(self._device, "an answer"):
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
                streamer=_Pieces(self._text, write),
            )
        return self._text.decode(made[0, ids.shape[1] :])

    def _ids(self, messages: Sequence[Message]) -> torch.Tensor:
        return torch.tensor([self._text.tokens(messages)], dtype=torch.long, device=self._device)

    @contextmanager
    def _as(self, side: Side) -> Iterator[None]:
        if side == "base" and self._adapter:
            with self._models["base"].disable_adapter():
                yield
        else:
            yield

    def _find_ends(self) -> set[int]:
        """Tokens that end an answer: the model's, the tokenizer's, and the one that the template adds."""
        ends = set(self._text.ends)
        for model in self._models.values():
            named = model.generation_config.eos_token_id
            ends |= set(named if isinstance(named, list) else [named] if named is not None else [])
            model.generation_config = GenerationConfig()  # the checkpoint's may name anything that exists
        return ends


class _Pieces(TextStreamer):
    """Forwards complete words as they are generated."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._write(text)


def _loaded(folder: Path, device: Device, attention: Attention) -> Any:
    """In bf16 only if the files are in bf16 as well."""
    half = device.autocast and model_shape(folder).half
    return load(folder, torch.bfloat16 if half else torch.float32, attention)


def _adapted(model: Any, adapter: Path) -> Any:
    with quiet(), unreadable(adapter):
        return LoraFiles.attach(model, adapter)
