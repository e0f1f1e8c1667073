"""Renders how long a run is planned, and how far it is."""

from __future__ import annotations

from barnraise.contract.schedule import OrderedDecay
from barnraise.contract.spec import RunSpec, Schedule
from barnraise.contract.tip import Position
from barnraise.core.units import format_count, format_seconds

NO_END = "no end: the learning rate stays, until `coordinator serve --decay N` ends the run"


def planned_length(spec: RunSpec) -> str:
    """How long a run goes on, for who plans it."""
    schedule, planned = spec.train.schedule, []
    if schedule.rounds is not None:
        seconds = schedule.rounds * spec.round.seconds
        planned.append(f"{format_count(schedule.rounds, 'round')}, {format_seconds(seconds)} of training")
    if schedule.tokens is not None:
        planned.append(f"{schedule.tokens:,} tokens")
    return "; ".join([" or ".join(planned) or NO_END, *_warmup(schedule), *_decay(schedule)])


def length_so_far(position: Position, spec: RunSpec) -> str:
    """How far a run is, and its learning rate, for who asks for its status."""
    schedule, progress, step = spec.train.schedule, position.progress, position.step
    if position.is_over(spec):
        return f"over after {format_count(step, 'round')}"
    ends = [f"round {position.round} is number {step + 1:,}{_of(progress.decay, schedule)}"]
    if progress.decay is None and schedule.tokens is not None:
        ends.append(f"{progress.tokens or 0:,} of {schedule.tokens:,} tokens count so far")
    return f"{', '.join(ends)}; learning rate at {position.rate_factor(spec):.0%}"


def _of(ordered: OrderedDecay | None, schedule: Schedule) -> str:
    if ordered is not None:
        return f" of {ordered.end:,}, and the last {ordered.rounds:,} decay, by its maintainer's order"
    return "" if schedule.rounds is None else f" of {schedule.rounds:,} planned"


def _warmup(schedule: Schedule) -> list[str]:
    rounds = schedule.warmup_rounds
    return [f"the learning rate rises over the first {format_count(rounds, 'round')}"] if rounds else []


def _decay(schedule: Schedule) -> list[str]:
    if not schedule.decay or (schedule.rounds is None and schedule.tokens is None):
        return []
    if schedule.tokens is None:
        return [f"the learning rate falls over the last {format_count(schedule.decay_rounds, 'round')}"]
    return [f"the learning rate falls over the last {schedule.decay:.0%}"]
