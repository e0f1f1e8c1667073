"""The settings of `scripts/bench uplink`: its options, and the run.toml that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

FIRST = 2
"""The volunteers join in rounds 0 and 1; from this round on all of them are present."""
TARGETS = {"lora": '{ kind = "lora", rank = 8, alpha = 16.0 }', "full": '{ kind = "full" }'}
RATES = {"lora": 1e-3, "full": 1e-4}
RUN = """\
name = "uplink"
seed = 7
[model]
source = "{model}"
[data]
source = "{data}"
sequence_length = 256
held_out = 0.02
[train]
batch = 1
target = {target}
[train.inner]
lr = {lr}
[round]
seconds = {seconds}
grace = {grace}
overlap = "{overlap}"
{codec}
[outer]
kind = "sgd"
lr = {outer_lr}
[checkpoint]
every = 1
keep = {keep}
held_out_tokens = 0
"""


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    target: str
    peers: int
    rounds: int
    """Whole rounds, after the first ones."""
    seconds: float
    """Length of a round's training."""
    overlap: str
    codec: str
    """The run spec's [codec], as TOML."""
    lr: float
    """Inner learning rate."""
    outer_lr: float
    """Of the mean of a round's results."""
    mbit: float
    baseline_seconds: float
    """0: no baseline."""
    baseline_batch: int
    baseline_lr: float
    baseline_state_every: int
    slow: float
    """How many times slower the last volunteer's machine is than the others'."""

    @property
    def names(self) -> list[str]:
        """The volunteers' names."""
        return [f"peer-{number}" for number in range(self.peers)]

    @property
    def end(self) -> int:
        """The round in which the measurement ends."""
        return FIRST + self.rounds


def run_toml(options: Options, model: str, data: object) -> str:
    """The run spec of the measured run."""
    return RUN.format(
        model=model,
        data=data,
        target=TARGETS[options.target],
        lr=options.lr,
        outer_lr=options.outer_lr,
        seconds=options.seconds,
        grace=max(60.0, 2 * options.seconds),
        overlap=options.overlap,
        codec=f"[codec]\n{options.codec}" if options.codec else "",
        keep=options.end + 2,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `scripts/bench uplink`."""
    parser.add_argument("--target", choices=TARGETS, default="lora")
    parser.add_argument("--peers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="whole rounds to measure, after the first")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a round's training")
    parser.add_argument("--overlap", choices=["auto", "always", "never"], default="always")
    parser.add_argument(
        "--codec", default="", help="the run spec's [codec], as TOML; default: that of run.toml"
    )
    parser.add_argument("--lr", type=float, help="inner learning rate; default: by the target")
    parser.add_argument("--outer-lr", type=float, default=1.0, help="outer learning rate")
    parser.add_argument("--mbit", type=float, default=20.0, help="each machine's line, in each direction")
    parser.add_argument("--baseline-seconds", type=float, default=600.0, help="for hivemind; 0 leaves it out")
    parser.add_argument("--baseline-batch", type=int, default=64, help="samples of one step of hivemind's")
    parser.add_argument("--baseline-lr", type=float, help="hivemind's learning rate; default: ours")
    parser.add_argument(
        "--baseline-state-every", type=int, default=20, help="steps between its state averages"
    )
    parser.add_argument("--slow", type=float, default=1.0, help="how many times slower the last machine is")


def options_of(chosen: argparse.Namespace) -> Options:
    """The parsed options; `--codec` may separate its lines by semicolons."""
    lr = chosen.lr or RATES[chosen.target]
    return Options(
        target=chosen.target,
        peers=chosen.peers,
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        overlap=chosen.overlap,
        codec=chosen.codec.replace(";", "\n"),
        lr=lr,
        outer_lr=chosen.outer_lr,
        mbit=chosen.mbit,
        baseline_seconds=chosen.baseline_seconds,
        baseline_batch=chosen.baseline_batch,
        baseline_lr=chosen.baseline_lr or lr,
        baseline_state_every=chosen.baseline_state_every,
        slow=chosen.slow,
    )
