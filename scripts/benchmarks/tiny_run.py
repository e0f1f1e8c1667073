"""The run file of benchmarks that start real programs: whole models, and no checkpoint after the first."""

from __future__ import annotations

from pathlib import Path

RUN = """\
name = "{name}"
[model]
source = "{model}"
[data]
source = "{data}"
sequence_length = 64
[train]
batch = 1
target = {{ kind = "full" }}
[round]
{round}
[checkpoint]
every = 1000
held_out_tokens = 0
[trust]
mode = "{mode}"
"""


def write_run(folder: Path, name: str, model: Path, data: Path, mode: str, **round: int) -> Path:
    """Write `run.toml`. round: its settings."""
    path = folder / "run.toml"
    settings = "\n".join(f"{setting} = {value}" for setting, value in round.items())
    text = RUN.format(name=name, model=model, data=data, round=settings, mode=mode)
    path.write_text(text, encoding="utf-8")
    return path
