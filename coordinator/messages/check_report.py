"""Renders what `coordinator check` found out."""

from __future__ import annotations

from textwrap import fill

from typing_extensions import assert_never

from barnraise.contract.spec import Lora, RunSpec
from barnraise.core.units import format_bytes, format_count
from barnraise.rehearsal.outcomes import rehearsal_message, structure_message
from coordinator.messages.dataset import dataset_report, render_report
from coordinator.messages.estimates import Rows, memory_rows, pace_rows
from coordinator.messages.length import planned_length
from coordinator.messages.objections import objection_message
from coordinator.messages.preview import preview_lines
from coordinator.messages.setup import codec_choice, codec_setting, not_redistributable, spec_warning
from coordinator.messages.source_files import source_files
from coordinator.reasons.setup import (
    CheckReport,
    MainNewestNothingHeldOut,
    MainNewestUnevaluated,
    MainPolicy,
    MainWithinBest,
    NotRedistributable,
    Redistributable,
)

WIDTH = 110
"""Columns of the report."""


def check_report(report: CheckReport) -> str:
    """The report as plain text: sections of aligned rows, the first sample, and what should change."""
    sections = [
        (f"{report.spec.name}: the model", _model(report)),
        ("the data", _data(report)),
        (f"memory of a volunteer, {_frozen(report)}micro-batch 1, by estimate", _memory(report)),
        (f"how fast {format_count(report.peers, 'volunteer')} train, a rough estimate", _pace(report)),
        ("how long the run is, and what a round takes", _round(report)),
        ("what the coordinator needs", _coordinator(report)),
        ("what the coordinator serves to anyone", _served(report)),
    ]
    width = max(len(label) for _, rows in sections for label, _ in rows)
    parts = [
        "\n".join([title, *(_row(label, value, width) for label, value in rows)]) for title, rows in sections
    ]
    preview = "\n".join(f"  {line}".rstrip() for line in preview_lines(report.dataset.preview))
    parts.append(f"the first sample: text between ⟦ and ⟧ is trained on\n{preview}")
    parts.append(_verdict(report))
    return "\n\n".join(parts)


def _row(label: str, value: str, width: int) -> str:
    """The value below the other values, wrapped where it is long."""
    first = f"  {label:<{width}}  "
    if len(first) + len(value) <= WIDTH:
        return (first + value).rstrip()
    below = " " * len(first)
    return fill(
        value,
        WIDTH,
        initial_indent=first,
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _model(report: CheckReport) -> Rows:
    needs, target = report.needs, report.spec.train.target
    share = needs.trainable_params / needs.base_params
    what = f"LoRA of rank {target.rank}" if isinstance(target, Lora) else "all parameters"
    return [
        ("base model", f"{report.spec.model.source}, {needs.base_params:,} parameters"),
        ("trained", f"{needs.trainable_params:,} parameters ({share:.1%}): {what}"),
        ("attention", structure_message(report.rehearsal)),
        ("rehearsal", rehearsal_message(report.rehearsal)),
    ]


def _data(report: CheckReport) -> Rows:
    built = report.dataset
    data = built.index
    return [
        *(row for found in built.sources for row in _under("source", source_files(found))),
        *_under("rows", dataset_report(built.report)),
        *_under("chats", render_report(built.rendering)),
        ("records", f"{built.records:,}, of which {built.held_out_records:,} held out"),
        ("samples", f"{data.samples:,} of {data.sequence_length} tokens"),
        ("tokens", f"{data.tokens:,}, trained on {data.trained_tokens:,}"),
    ]


def _under(label: str, lines: list[str]) -> Rows:
    """One label for several lines."""
    return [(label if place == 0 else "", line) for place, line in enumerate(lines)]


def _frozen(report: CheckReport) -> str:
    lora = isinstance(report.spec.train.target, Lora)
    return "by the precision of the frozen weights, at " if lora else "at "


def _memory(report: CheckReport) -> Rows:
    return memory_rows(report.needs.memory)


def _pace(report: CheckReport) -> Rows:
    return pace_rows(report.peers, report.paces)


def _round(report: CheckReport) -> Rows:
    needs, seconds, advice = report.needs, report.spec.round.seconds, report.recommendation
    exchange = (
        f"{report.exchange:.1f} s at {report.uplink_mbit:g} Mbit/s up,"
        f" {report.exchange / seconds:.1%} of a round of {seconds:g} s"
    )
    return [
        ("the run", planned_length(report.spec)),
        (
            "a contribution",
            f"{format_bytes(needs.blob)}; a volunteer sends about {format_bytes(needs.up)} and receives"
            f" at most {format_bytes(needs.down)}",
        ),
        ("time to exchange", exchange),
        ("recommended codec", f"{codec_setting(advice.codec)}: {codec_choice(advice.because)}"),
        ("recommended round", f"round.seconds {advice.seconds} or more, round.grace {advice.grace} or more"),
    ]


def _coordinator(report: CheckReport) -> Rows:
    needs, checkpoint = report.needs, report.spec.checkpoint
    rounds = format_count(needs.log // needs.log_per_round, "round")
    forms = f", and {format_bytes(needs.forms)} for its other forms, once promoted" if needs.forms else ""
    return [
        ("memory", f"{format_bytes(needs.coordinator_memory)}, and that of an evaluation"),
        (
            "a checkpoint, one in " + format_count(checkpoint.every, "round"),
            format_bytes(needs.checkpoint) + forms,
        ),
        ("the log of a round", f"{format_bytes(needs.log_per_round)}; the last {rounds} can be replayed"),
        (
            "disk, at most",
            f"{format_bytes(needs.disk)}: {needs.checkpoints} checkpoints and {format_bytes(needs.log)} of"
            " the log",
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
    found = [objection_message(objection) for objection in report.objections]
    found += [spec_warning(warning) for warning in report.warnings]
    if not found:
        return "No problems found: start the run with `coordinator serve`."
    return "\n".join(["It can run, but:", *(_item(text) for text in found)])


def _item(text: str) -> str:
    return fill(text, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
