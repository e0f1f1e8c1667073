"""`scripts/bench models`: real programs on big models with random weights, and the memory that they take.

The peak is the largest resident set (VmHWM) of the volunteer's process, next to the estimate that
`peer join` prints. Linux only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.models.memory_estimate import Precision
from scripts.random_model import documentation, write_random_model
from scripts.stage import DemoFailed, Program, running, serve

RUN = """\
name = "big"
[model]
source = "{model}"
licence = "apache-2.0"
[data]
source = "data.jsonl"
sequence_length = {length}
held_out = {held_out}
licence = "cc0-1.0"
[train]
batch = 1
target = {{ kind = "lora", rank = 8 }}
[round]
seconds = 60
steps = 1
grace = 600
[checkpoint]
every = 1
held_out_tokens = {held_out_tokens}
merged = {forms}
{gguf}
"""
LENGTH = 512
RECORDS = 400
TIMEOUT_SECONDS = 3600.0
POLL_SECONDS = 0.5
_ESTIMATE = re.compile(r"samples? at once.*: about ([\d.]+) GB")
_STEPPED = re.compile(r"^round \d+: .*loss \d", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A model, how its frozen weights are stored, and how far the run goes."""

    shape: str
    frozen: Precision
    whole: bool
    """Until a checkpoint is merged and written as GGUF; otherwise until the first step."""


CASES = {
    "1.1b-bf16": Case("tinyllama-1.1b", "bf16", whole=True),
    "1.1b-4bit": Case("tinyllama-1.1b", "4bit", whole=True),
    "8b-4bit": Case("llama-3-8b", "4bit", whole=False),
}


def measure_models(names: Sequence[str], folder: Path) -> Iterator[str]:
    """Run each case; yields a markdown table line by line. folder: for models, kept. Raises DemoFailed."""
    yield (
        "| model | frozen weights | first step after, s | peak, GB | estimate, GB | peak ÷ estimate"
        " | coordinator's peak, GB |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for name in names:
        case = CASES[name]
        model = folder / case.shape
        if not (model / "config.json").exists() or not any(model.glob("*.safetensors")):
            write_random_model(case.shape, model)
        yield _measure(case, model, folder / name)


def _measure(case: Case, model: Path, work: Path) -> str:
    work.mkdir(parents=True, exist_ok=True)
    _write_run(case, model, work)
    with running(work) as stage:
        invite, _ = serve(stage, TIMEOUT_SECONDS)
        coordinator = stage.named("coordinator")
        began = time.monotonic()
        volunteer = stage.volunteer("ada", invite, "--base", str(model), "--frozen", case.frozen)
        _until(volunteer, lambda: _STEPPED.search(volunteer.log.read_text()) is not None)
        stepped = time.monotonic() - began
        if case.whole:
            archive = work / "coordinator" / "archive"
            for form in ("merged", "gguf"):
                _until(volunteer, lambda form=form: any((archive / form).glob("*-*[1-9]/*")))  # type: ignore[misc]
        peak, of_coordinator = peak_memory(volunteer), peak_memory(coordinator)
    estimate = float(_ESTIMATE.findall(volunteer.log.read_text())[0]) * 1e9
    return (
        f"| {case.shape} | {case.frozen} | {stepped:.0f} | {peak / 1e9:.2f} | {estimate / 1e9:.2f}"
        f" | {peak / estimate:.2f} | {of_coordinator / 1e9:.2f} |"
    )


def _write_run(case: Case, model: Path, work: Path) -> None:
    texts = [text for text in documentation() if len(text) > 200][:RECORDS]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (work / "data.jsonl").write_text(lines, encoding="utf-8")
    run = RUN.format(
        model=model,
        length=LENGTH,
        held_out=0.05 if case.whole else 0,
        held_out_tokens=2048 if case.whole else 0,
        forms="true" if case.whole else "false",
        gguf='gguf = "q8_0"' if case.whole else "",
    )
    (work / "run.toml").write_text(run, encoding="utf-8")


def peak_memory(program: Program) -> int:
    """The largest resident set of a living process so far, bytes."""
    status = Path(f"/proc/{program.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _until(program: Program, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not happened():
        if not program.alive() or time.monotonic() > deadline:
            raise DemoFailed(f"{program.name} did not get there:\n{program.log.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
