"""Measures what the parts cost on this machine, and prints markdown tables.

Every figure is the median of its repetitions, next to something that every machine can do (a plain
copy) or to a bound that follows from the design, so that two machines' tables can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from scripts.benchmarks.absence import AWAY, measure_absence
from scripts.benchmarks.absence import CASES as ABSENCE_CASES
from scripts.benchmarks.attacks.measure import add_arguments as add_attacks
from scripts.benchmarks.attacks.measure import attacks
from scripts.benchmarks.audits.measure import measure_audits
from scripts.benchmarks.audits.statistics import KINDS as AUDIT_KINDS
from scripts.benchmarks.codec import KINDS, LAYOUTS, PARTS, SEED
from scripts.benchmarks.convergence.baseline import BaselineFailed
from scripts.benchmarks.convergence.measure import add_arguments as add_convergence
from scripts.benchmarks.convergence.measure import convergence
from scripts.benchmarks.costs import measure_costs
from scripts.benchmarks.data import FILES, measure_data
from scripts.benchmarks.defence_costs import TARGETS
from scripts.benchmarks.download import DownloadFailed, measure_download
from scripts.benchmarks.floods.attacks import FLOODS
from scripts.benchmarks.floods.measure import measure_floods
from scripts.benchmarks.flushes import measure_file, measure_flushes
from scripts.benchmarks.learning.measure import add_arguments as add_learning
from scripts.benchmarks.learning.measure import learning
from scripts.benchmarks.learning.texts import TextUnavailable
from scripts.benchmarks.learning.value import add_arguments as add_volunteers
from scripts.benchmarks.learning.value import value_of_volunteers
from scripts.benchmarks.load.measure import measure_load
from scripts.benchmarks.models import CASES, measure_models
from scripts.benchmarks.records import measure_records
from scripts.benchmarks.round import measure_round
from scripts.benchmarks.scale import measure_processes, simulate
from scripts.benchmarks.uplink.measure import measure_uplink
from scripts.benchmarks.uplink.settings import add_options as add_uplink
from scripts.benchmarks.uplink.settings import options_of
from scripts.benchmarks.verify import measure_verify
from scripts.benchmarks.year import measure_year
from scripts.demo import CACHE
from scripts.netns import NetworkFailed
from scripts.stage import ROOT, DemoFailed


class BenchFailed(Exception):
    """A measurement ended early."""


FAILURES = (BaselineFailed, BenchFailed, DemoFailed, DownloadFailed, NetworkFailed, TextUnavailable)


def main() -> int:
    options = _parser().parse_args()
    print(header(sys.argv[1:]), flush=True)
    try:
        for table_text in MEASUREMENTS[options.what](options):
            print(table_text, flush=True)
    except (
        BaselineFailed,
        BenchFailed,
        DemoFailed,
        DownloadFailed,
        NetworkFailed,
        TextUnavailable,
    ) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _scale(options: argparse.Namespace) -> Iterator[str]:
    yield measure_processes(options.processes, options.rounds)
    yield simulate(options.simulated, options.rounds, SEED)


def _flushes(options: argparse.Namespace) -> Iterator[str]:
    yield table(
        ["part", "contributions", "flushes", "commits", "a flush, ms", "a commit, ms", "both, s"],
        list(measure_flushes(options.contributions, options.rounds, options.folder)),
    )
    flushed, cached = measure_file(options.rounds, options.folder)
    yield f"A file of 500 MB: {flushed:.2f} s with its flush, {cached:.2f} s without.\n"


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Iterable[str]]] = {
    "codec": lambda options: [codec_table(options.kinds, options.repeats, options.parameters)],
    "memory": lambda options: [memory_table(options.kinds)],
    "round": lambda options: [measure_round(options.peers, options.rounds)],
    "convergence": lambda options: [convergence(options)],
    "learning": learning,
    "volunteers": value_of_volunteers,
    "absence": lambda options: measure_absence(
        options.rounds, options.seed, options.cases, options.away, CACHE / "bench"
    ),
    "audits": lambda options: measure_audits(options.kinds, options.seed, CACHE / "bench", options.results),
    "attacks": attacks,
    "costs": lambda options: measure_costs(options.targets, options.repeats),
    "uplink": lambda options: [measure_uplink(options_of(options))],
    "models": lambda options: measure_models(options.cases, options.folder),
    "scale": _scale,
    "records": lambda options: [measure_records(options.volunteers, options.rounds, options.seconds)],
    "data": lambda options: [measure_data(options.megabytes, options.repeats, options.kinds)],
    "load": lambda options: measure_load(options.volunteers, options.seconds, options.core, options.profile),
    "floods": lambda options: measure_floods(options.floods, options.seconds, options.pairs),
    "flushes": _flushes,
    "year": lambda options: measure_year(options.rounds, options.contributions, options.folder),
    "verify": lambda options: [measure_verify(options.peers, options.rounds)],
    "download": lambda options: [
        measure_download(options.gigabytes, options.repeats, options.crowd, options.megabits)
    ],
}
"""The tables of each command, in the order in which they are printed."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    codec = commands.add_parser("codec", help="encode, decode and fold one contribution")
    codec.add_argument("--repeats", type=int, default=3)
    codec.add_argument("--parameters", choices=LAYOUTS, default="135M", help="1B takes about 20 GB of memory")
    codec.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    memory = commands.add_parser("memory", help="a volunteer's memory in a full run of 135M parameters")
    memory.add_argument("--kinds", nargs="*", choices=KINDS, default=["4-bit", "2-bit"])
    whole = commands.add_parser("round", help="bytes and overhead of real rounds on loopback")
    whole.add_argument("--peers", type=int, default=2)
    whole.add_argument("--rounds", type=int, default=3, help="whole rounds to measure, after the first")
    add_convergence(
        commands.add_parser("convergence", help="loss and bytes of each way of training together")
    )
    add_learning(commands.add_parser("learning", help="what a real model learns from each volunteer"))
    add_volunteers(commands.add_parser("volunteers", help="what each further volunteer of a run is worth"))
    add_attacks(commands.add_parser("attacks", help="what is left of a run's gain under attacks"))
    absence = commands.add_parser(
        "absence", help="what training through an absence of the coordinator is worth"
    )
    absence.add_argument("--rounds", type=int, nargs="*", default=[1, 3, 10, 30], help="lengths, ascending")
    absence.add_argument(
        "--cases", nargs="*", choices=[case.name for case in ABSENCE_CASES], default=[ABSENCE_CASES[0].name]
    )
    absence.add_argument(
        "--away", nargs="*", choices=AWAY, default=list(AWAY), help="which machines are cut off"
    )
    absence.add_argument("--seed", type=int, default=1)
    audits = commands.add_parser("audits", help="what audits find in honest contributions and in attacks")
    audits.add_argument("--kinds", nargs="*", default=[kind.name for kind in AUDIT_KINDS])
    audits.add_argument("--seed", type=int, default=1)
    audits.add_argument(
        "--results", type=Path, default=Path("bench-audits.json"), help="scores are kept here"
    )
    costs = commands.add_parser("costs", help="what defences take of a volunteer's time, and audits")
    costs.add_argument("--targets", nargs="*", choices=TARGETS, default=list(TARGETS))
    costs.add_argument("--repeats", type=int, default=7)
    add_uplink(commands.add_parser("uplink", help="real runs on lines of 20 Mbit/s, in network namespaces"))
    scale = commands.add_parser("scale", help="bytes and seconds as a swarm grows")
    scale.add_argument(
        "--processes",
        type=int,
        nargs="*",
        default=[2, 4, 8, 16],
        help="numbers of volunteers that run as programs",
    )
    scale.add_argument("--simulated", type=int, nargs="*", default=[8, 32, 100, 1000])
    scale.add_argument("--rounds", type=int, default=4)
    big = commands.add_parser("models", help="memory of real runs on models of 1.1B and 8B random weights")
    big.add_argument("--cases", choices=CASES, nargs="*", default=list(CASES))
    big.add_argument("--folder", type=Path, required=True, help="for models and runs: 25 GB; kept")
    records = commands.add_parser(
        "records", help="what heads, heartbeats and commits cost the nodes of a swarm"
    )
    records.add_argument("--volunteers", type=int, nargs="*", default=[4, 8, 16, 32])
    records.add_argument("--rounds", type=int, default=2)
    records.add_argument("--seconds", type=float, default=60.0)
    load = commands.add_parser("load", help="CPU, memory and answer times of a coordinator of thousands")
    load.add_argument("--volunteers", type=int, nargs="*", default=[200, 2000])
    load.add_argument("--seconds", type=float, default=120.0, help="of each measurement")
    load.add_argument("--core", type=int, help="keep the coordinator on this core, and the rest off it")
    load.add_argument("--profile", type=Path, help="a file for cProfile's figures of the coordinator")
    floods = commands.add_parser("floods", help="rounds and memory of a run under floods of strangers")
    floods.add_argument("--floods", nargs="*", choices=FLOODS, default=list(FLOODS))
    floods.add_argument("--seconds", type=float, default=24.0, help="of each flood, and of each quiet time")
    floods.add_argument("--pairs", type=int, default=3, help="of a quiet time and a flood, in turn")
    flushes = commands.add_parser("flushes", help="what it costs that a power cut loses nothing")
    flushes.add_argument("--contributions", type=int, nargs="*", default=[2, 16])
    flushes.add_argument("--rounds", type=int, default=5)
    flushes.add_argument("--folder", type=Path, required=True, help="on the disk that is measured")
    year = commands.add_parser("year", help="the files and a restart of a run of many generated rounds")
    year.add_argument("--rounds", type=int, default=100_000)
    year.add_argument("--contributions", type=int, default=3, help="to each round")
    year.add_argument("--folder", type=Path, help="kept; the run that is there gets the rounds that it lacks")
    verify = commands.add_parser(
        "verify", help="the time to prove a checkpoint, against the time to train it"
    )
    verify.add_argument("--peers", type=int, default=2)
    verify.add_argument("--rounds", type=int, default=6)
    data = commands.add_parser("data", help="the dataset builder against encode_batch_fast alone")
    data.add_argument("--megabytes", type=int, default=50, help="text of each kind, in 10^6 bytes")
    data.add_argument("--repeats", type=int, default=3)
    data.add_argument("--kinds", nargs="*", choices=FILES, default=list(FILES))
    download = commands.add_parser(
        "download", help="the HTTP gateway against nginx, and many downloads at once"
    )
    download.add_argument("--gigabytes", type=float, default=1.0)
    download.add_argument("--repeats", type=int, default=7)
    download.add_argument("--crowd", type=int, default=100)
    download.add_argument("--megabits", type=float, default=8.0, help="speed of each download of the crowd")
    return parser


def header(arguments: Sequence[str]) -> str:
    """The command, the machine and the versions that the figures depend on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch"))
    return (
        f"- command: `scripts/bench {shlex.join(arguments)}`, seed {SEED}\n"
        f"- machine: {_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB,"
        f" {platform.system()} {platform.machine()}; load before: {os.getloadavg()[0]:.1f}\n"
        f"- Python {platform.python_version()}, {libraries}\n"
    )


def codec_table(kinds: Sequence[str], repeats: int, parameters: str) -> str:
    rows = []
    for kind in kinds:
        found = child("codec", kind, repeats, parameters)
        work = found["encode"] + found["check"] + found["decode"] + found["fold"]
        rows.append(
            [
                kind,
                f"{found['blob'] / 1e6:.1f}",
                *(f"{found[what]:.2f}" for what in PARTS),
                f"{found['encode'] + found['decode'] + found['fold']:.2f}",
                f"{4e9 * work / found['state']:.1f}",
                f"{work / found['copy']:.1f}",
                f"{found['encode_peak'] / found['state']:.2f}",
                f"{found['fold_peak'] / found['state']:.2f}",
            ]
        )
    return table(
        ["kind", "blob, MB", "copy, s", "encode, s", "check, s", "norm, s", "decode, s", "fold, s",
         "encode + decode + fold, s", "all, ns a value", "all ÷ copy",
         "encode's peak ÷ state", "fold's peak ÷ state"],
        rows,
    )  # fmt: skip


def memory_table(kinds: Sequence[str]) -> str:
    phases = ("contribute", "fold 2", "fold 4", "save")
    rows = []
    for kind in kinds:
        found = child("memory", kind, 1, "135M")
        rows.append([kind, *(f"{found[phase] / found['state']:.2f}" for phase in phases)])
    return table(["kind", *(f"{phase}, ÷ state" for phase in phases)], rows)


def child(what: str, kind: str, repeats: int, parameters: str) -> dict[str, float]:
    """A measurement in a process of its own, restricted to one thread where the libraries allow it."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.codec", what, kind, str(repeats), parameters],
        cwd=ROOT, env=os.environ | single, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchFailed(f"{what} of {kind} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = facts.read_text().splitlines() if facts.exists() else []
    return next(
        (line.partition(": ")[2] for line in names if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    sys.exit(main())
