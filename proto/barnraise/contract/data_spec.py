"""The part of the run spec that describes the training data: [data] and [[data.sources]] in run.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.core.strict import Strict, Text


class SourceSpec(Strict):
    """One of several sources of training data; instead of `source` in [data]."""

    source: Annotated[Text, Field(examples=["hub:owner/name"])]
    """As `data.source`."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How often volunteers train on the source's records in an epoch.
    2 repeats each record; 0.5 takes half of them, chosen by their hash. What is held out is held out once."""
    config: Text | None = Field(default=None, examples=["default"])
    """As `data.config`."""
    revision: Text | None = Field(default=None, examples=["main"])
    """As `data.revision`."""
    split: Text = "train"
    """As `data.split`."""
    text_field: Text | None = Field(default=None, examples=["text"])
    """As `data.text_field`."""


class DataSpec(Strict):
    """The training data."""

    source: Text | None = Field(default=None, examples=["data.jsonl"])
    """File, folder, or Hub dataset `hub:owner/name`; required unless there are [[data.sources]].
    Files are JSON (lines, an array or an object with one list), CSV, TSV, Parquet, or text (`.txt`, `.md`);
    all but Parquet may be compressed (`.gz`, `.bz2`, `.xz`, `.zst`). docs/DATA.md lists what was tried."""
    config: Text | None = Field(default=None, examples=["default"])
    """Configuration of a Hub dataset, or of its folder; an error lists those that exist.
    Required where a dataset has several and none is the default."""
    revision: Text | None = Field(default=None, examples=["main"])
    """Commit, tag or branch of a Hub dataset.
    The coordinator pins it to a commit when the run starts."""
    split: Text = "train"
    """Split of a Hub dataset or of a folder; `train+validation` takes both.
    In a folder, names distinguish the splits: `train/`, `test.jsonl`, `validation-00000-of-00002.parquet`.
    Files without such a name belong to `train` if no other does. Other splits are not trained on."""
    text_field: Text | None = Field(default=None, examples=["text"])
    """Field that contains the text, or the messages, of a record.
    A dot leads into an object: `data.text`. It wins over every shape that is recognized without it.
    Without it, `text` is the field of plain text, in records that are no chat."""
    documents: Literal["size", "blank-lines", "file"] = "size"
    """How plain text is cut into documents.
    A document is trained on or held out as a whole. `size`: a document ends at the last blank line within 4
    characters per token of `sequence_length`, else at a line's end or a space. `blank-lines`: at every blank
    line. `file`: a file is one document, at most 64 MiB."""
    chat_template: Text | None = Field(default=None, examples=["chat_template.jinja"])
    """Chat template: a file, or the name of a built-in template.
    Without it, the template of the base model's tokenizer is used."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What happens to rows that cannot be trained on.
    `refuse`: no run starts until they are corrected. `skip`: they are counted and left out."""
    too_long: Literal["trim", "drop"] = "trim"
    """What happens to a chat that is longer than `sequence_length`.
    `trim`: whole turns are removed from its start until it fits. `drop`: it is left out."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Whether several documents share one sample.
    `auto`: the coordinator packs where the model keeps packed documents apart, and records its choice when
    the run starts."""
    sequence_length: Annotated[int, Field(ge=8, le=131_072)] = 512
    """Tokens in one packed sample.
    Raise it for long documents: a volunteer's memory for activations grows in proportion."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of the records that volunteers do not train on.
    The hash of a record decides. Checkpoints are evaluated on these records; 0 disables evaluation."""
    licence: Text = "unknown"
    """Licence of the text, such as `cc-by-4.0`.
    It appears on the model card. Where it allows redistribution, the coordinator serves the data too."""

    sources: Annotated[tuple[SourceSpec, ...], Field(max_length=64)] = ()
    """Several sources with weights, instead of `source`."""

    @model_validator(mode="after")
    def _source_or_sources(self) -> DataSpec:
        if self.source is None and not self.sources:
            raise ValueError("`source` is missing: give it, or one or more [[data.sources]]")
        if self.source is not None and self.sources:
            raise ValueError("`source` and [[data.sources]] exclude each other: move `source` into a table")
        # A charter names every setting, so that one with its default value is as one that is absent.
        fields = type(self).model_fields
        alone = [name for name in _OF_ONE_SOURCE if getattr(self, name) != fields[name].default]
        if self.sources and alone:
            raise ValueError(f"`{alone[0]}` belongs into each of [[data.sources]] where there are any")
        return self

    @property
    def all_sources(self) -> tuple[SourceSpec, ...]:
        """The sources that the records come from, in order."""
        if self.source is None:
            return self.sources
        shared = {name: getattr(self, name) for name in _OF_ONE_SOURCE}
        return (SourceSpec(source=self.source, **shared),)

    def with_sources(self, sources: tuple[SourceSpec, ...]) -> DataSpec:
        """The same data with `sources` for `all_sources`, in the form that the maintainer chose."""
        if self.source is None:
            return self.model_copy(update={"sources": sources})
        (only,) = sources
        return self.model_copy(
            update={"source": only.source, **{name: getattr(only, name) for name in _OF_ONE_SOURCE}}
        )

    @property
    def title(self) -> str:
        """The sources in a few words, for messages and cards."""
        return ", ".join(source.source for source in self.all_sources)


_OF_ONE_SOURCE = ("config", "revision", "split", "text_field")
"""Settings of [data] that each of [[data.sources]] has for itself."""
