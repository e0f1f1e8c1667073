"""Limits of what transformers makes from a config: modules, and values in proportion to the files.

torch calls hooks whenever a module, parameter or buffer becomes part of another module. They count, and raise
before more is made: the names under which configs have their sizes differ from kind to kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_MODULES = 200_000
"""The largest models have 100,000: 61 layers of 384 experts, each of four modules."""
MAX_BUFFER_BYTES = 2**30
"""Buffers, such as causal masks, beyond the size of the weights."""
_WEIGHTS = ("*.safetensors", "*.gguf")
_SMALLEST = {".safetensors": 1, ".gguf": 8}
"""Values that a byte of a file holds at most."""


@dataclass
class _Made:
    values: int
    """The largest number of values that the files can hold; 0 where there are none."""
    buffers: int
    modules: int = 0

    def module(self, _parent: Any, _name: str, module: Any) -> None:
        self.modules += module is not None
        if self.modules > MAX_MODULES:
            raise ValueError(f"its config makes more than {MAX_MODULES:,} modules")

    def parameter(self, _parent: Any, name: str, parameter: Any) -> None:
        if parameter is None or not self.values:
            return
        self.values -= parameter.numel()
        if self.values <= 0:
            raise ValueError(f"its config makes more parameters ({name} and others) than its files can hold")

    def buffer(self, _parent: Any, name: str, buffer: Any) -> None:
        if buffer is None:
            return
        self.buffers -= buffer.numel() * buffer.element_size()
        if self.buffers < 0:
            raise ValueError(f"its config makes buffers ({name} and others) that are larger than the model")


@contextmanager
def bounded_build(source: Path) -> Iterator[None]:
    """Raise ValueError within, where a model is made that is larger than its files allow.

    source: the folder of the model, or its .gguf file.
    """
    from torch.nn.modules.module import (
        register_module_buffer_registration_hook,
        register_module_module_registration_hook,
        register_module_parameter_registration_hook,
    )

    files = [source] if source.is_file() else [file for kind in _WEIGHTS for file in source.glob(kind)]
    held = sum(file.stat().st_size * _SMALLEST.get(file.suffix, 1) for file in files)
    # A tied weight is registered twice: at first, and in the place of what it is tied to.
    made = _Made(values=2 * held + 1, buffers=8 * held + MAX_BUFFER_BYTES)
    if not held:
        made.values = 0
    hooks = [
        register_module_module_registration_hook(made.module),
        register_module_parameter_registration_hook(made.parameter),
        register_module_buffer_registration_hook(made.buffer),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
