"""`scripts/bench learning`: what SmolLM2-135M learns by each way of training together, and forgets.

All arms of a table train on equally many tokens of one text. Rates and outer steps are chosen on a seed of
their own, from a grid that is printed. Finished runs are stored in a results file, so that the bench can
be stopped at any time and goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace

from barnraise.contract.spec import Full, Lora
from scripts.benchmarks.arms.arms import Hivemind
from scripts.benchmarks.arms.cells import Results
from scripts.benchmarks.arms.comparison import Found, difference, found_of, gain
from scripts.benchmarks.arms.options import add_plan_options, finished
from scripts.benchmarks.arms.plan import TUNING_SEED, Cell, Done, Plan, grid_lines, settings
from scripts.benchmarks.arms.training import Outcome, run
from scripts.benchmarks.learning.rows import ALONE, BASE, rows
from scripts.benchmarks.learning.texts import TRAINED
from scripts.benchmarks.learning.workload import BATCH, LENGTH, NOVEL, STEPS, Setting, setting, workload

TARGETS: Mapping[str, Full | Lora] = {"LoRA": Lora(rank=16, alpha=32.0), "full": Full()}


def train(chosen: Setting, cell: Cell) -> Outcome:
    """The outcome of one cell, in the process that calls this. Raises TextUnavailable."""
    if isinstance(cell.arm, Hivemind):
        raise ValueError("hivemind's optimizer is measured by `scripts/bench convergence` alone")
    return run(cell.arm, workload(chosen, cell.seed))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--texts", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--settings-of", choices=TRAINED, help="take the best settings on this text")
    parser.add_argument("--steps", type=int, default=STEPS, help="inner steps of each machine")
    add_plan_options(parser, "bench-learning.json")
    parser.add_argument("--fp32", action="store_true", help="matrix products in fp32 instead of bf16")


def learning(chosen: argparse.Namespace) -> Iterator[str]:
    """A table for each text and target, for the arguments of `add_arguments`. Raises TextUnavailable."""
    for text in chosen.texts:
        for target in chosen.targets:
            where = setting(text, chosen.peers, not chosen.fp32, chosen.steps)
            plan = Plan(rows(TARGETS[target], chosen.peers), chosen.seeds).only([BASE, *chosen.only])
            if chosen.settings_of:
                other = replace(where, text=chosen.settings_of)
                plan = plan.with_settings_of(Results(chosen.results, other.name).done)
            done = finished(plan, where.name, chosen, where, train)
            yield _setting(where, target, chosen)
            yield "\n".join([*grid_lines(plan, done), "", *_table(plan, done)])


def _setting(where: Setting, target: str, chosen: argparse.Namespace) -> str:
    by = f"as on {chosen.settings_of}" if chosen.settings_of else f"chosen on seed {TUNING_SEED}"
    return (
        f"- {target} of SmolLM2-135M on {where.text}, {where.peers} machines, {where.steps} inner steps of"
        f" {BATCH} x {LENGTH} tokens each; seeds {', '.join(map(str, chosen.seeds))}\n"
        f"- settings of each arm, {by}:\n"
    )


def _table(plan: Plan, done: Done) -> Iterator[str]:
    found = found_of(plan, done)
    yield "| arm | settings | held-out loss | against | difference, % | of DDP's gain, % | forgotten | MB |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for name, one in found.items():
        compared, share = difference(found, name, one.row.against or ALONE), gain(found, name)
        cells = [name, settings(one.chosen.arm), f"{statistics.fmean(one.losses):.4f}"]
        cells += [one.row.against or ALONE, f"{compared:+.2f}" if compared else "–"]
        cells += [f"{share:.0f}" if share else "–", _forgotten(found, one), f"{one.once / 1e6:.2f}"]
        yield f"| {' | '.join(cells)} |"


def _forgotten(found: Mapping[str, Found], one: Found) -> str:
    """By how much the loss of the novel rose, in nats a token."""
    if BASE not in found:
        return "–"
    before, after = (
        statistics.fmean(each.others[NOVEL] for each in row.outcomes) for row in (found[BASE], one)
    )
    return f"{after - before:+.4f}"
