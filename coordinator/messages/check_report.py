"""Renders what `coordinator check` found out."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.spec import Lora, RunSpec
from barnraise.core.units import format_bytes
from coordinator.messages.dataset import dataset_report
from coordinator.messages.setup import codec_choice, codec_setting, not_redistributable, spec_warning
from coordinator.reasons.setup import (
    PERMANENT_CHECKPOINTS,
    CheckReport,
    MainNewestNothingHeldOut,
    MainNewestUnevaluated,
    MainPolicy,
    MainWithinBest,
    NotRedistributable,
    Redistributable,
)

Rows = list[tuple[str, str]]
"""Label and value."""


def check_report(report: CheckReport) -> str:
    """The report as plain text: sections of aligned rows, the first sample, and the warnings."""
    sections = [
        (f"{report.spec.name}: the model", _model(report)),
        ("the data", _data(report)),
        (f"what {_count(report.peers, 'volunteer')} need, by estimate", _volunteers(report)),
        (f"recommended at {report.uplink_mbit:g} Mbit/s up", _recommended(report)),
        ("disk of the coordinator", _disk(report)),
        ("what the run's server provides to anyone", _served(report)),
    ]
    width = max(len(label) for _, rows in sections for label, _ in rows)
    parts = [
        "\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in rows)])
        for title, rows in sections
    ]
    parts.append("its rows\n" + _indented("\n".join(dataset_report(report.dataset.report))))
    preview = _indented(report.dataset.preview)
    parts.append(f"the first sample: text between ⟦ and ⟧ is trained on\n{preview}")
    parts.append(_verdict(report))
    return "\n\n".join(parts)


def _model(report: CheckReport) -> Rows:
    needs, target = report.needs, report.spec.train.target
    share = needs.trainable_params / needs.base_params
    what = f"LoRA of rank {target.rank}" if isinstance(target, Lora) else "all parameters"
    return [
        ("base model", f"{report.spec.model.source}, {needs.base_params:,} parameters"),
        ("trained", f"{needs.trainable_params:,} parameters ({share:.1%}): {what}"),
    ]


def _data(report: CheckReport) -> Rows:
    built = report.dataset
    data = built.index
    return [
        ("records", f"{built.records:,}, of which {built.held_out_records:,} held out"),
        ("samples", f"{data.samples:,} of {data.sequence_length} tokens"),
        ("tokens", f"{data.tokens:,}, trained on {data.trained_tokens:,}"),
    ]


def _volunteers(report: CheckReport) -> Rows:
    needs, seconds = report.needs, report.spec.round.seconds
    memory = f"{format_bytes(needs.peer_memory)} to train on a CPU, {format_bytes(needs.gpu_memory)} on a GPU"
    exchange = (
        f"{report.exchange:.1f} s at {report.uplink_mbit:g} Mbit/s up,"
        f" {report.exchange / seconds:.1%} of a round of {seconds:g} s"
    )
    return [
        ("memory of a volunteer", memory),
        ("memory of the coordinator", format_bytes(needs.coordinator_memory)),
        ("a contribution", format_bytes(needs.blob)),
        ("sent per round and volunteer", f"about {format_bytes(needs.up)}"),
        ("received per round and volunteer", f"at most {format_bytes(needs.down)}"),
        ("time to exchange", exchange),
    ]


def _recommended(report: CheckReport) -> Rows:
    advice = report.recommendation
    return [
        ("codec", f"{codec_setting(advice.codec)}, because {codec_choice(advice.because)}"),
        ("round.seconds", f"{advice.seconds} or more: five minutes, and ten times the exchange"),
        ("round.grace", f"{advice.grace} or more: one and a half times the exchange"),
    ]


def _disk(report: CheckReport) -> Rows:
    needs, checkpoint = report.needs, report.spec.checkpoint
    rounds = _count(needs.log // needs.log_per_round, "round")
    checkpoints = checkpoint.keep + PERMANENT_CHECKPOINTS
    return [
        ("a checkpoint, one in " + _count(checkpoint.every, "round"), format_bytes(needs.checkpoint)),
        *([("its other forms, once promoted", format_bytes(needs.forms))] if needs.forms else []),
        ("the log of a round", f"{format_bytes(needs.log_per_round)}; the last {rounds} can be replayed"),
        (
            "in all, at most",
            f"{format_bytes(needs.disk)}: {checkpoints} checkpoints and {format_bytes(needs.log)} of the log",
        ),
    ]


def _served(report: CheckReport) -> Rows:
    return [
        ("checkpoints", ", ".join(_forms(report.spec))),
        ("the checkpoint called main", _main(report.main)),
        ("the base model", _licence(report.model_licence)),
        ("the data", _licence(report.data_licence)),
    ]


def _forms(spec: RunSpec) -> list[str]:
    forms = ["as trained"]
    if spec.checkpoint.merged and isinstance(spec.train.target, Lora):
        forms.append("merged into the base model")
    if spec.checkpoint.gguf:
        forms.append(f"as GGUF ({spec.checkpoint.gguf})")
    return forms


def _main(policy: MainPolicy) -> str:
    match policy:
        case MainWithinBest(within):
            return f"the newest whose held-out loss is within {within:.1%} of the best"
        case MainNewestUnevaluated():
            return "the newest: checkpoint.held_out_tokens is 0"
        case MainNewestNothingHeldOut():
            return "the newest: no text is held out"
        case _:
            assert_never(policy)


def _licence(found: Redistributable | NotRedistributable) -> str:
    match found:
        case Redistributable(licence):
            return f"yes, by {licence}"
        case NotRedistributable():
            return f"no: {not_redistributable(found)}"
        case _:
            assert_never(found)


def _verdict(report: CheckReport) -> str:
    if not report.warnings:
        return "No problems found: start the run with `coordinator serve`."
    return "\n".join(["It can run, but:", *(f"  - {spec_warning(warning)}" for warning in report.warnings)])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
