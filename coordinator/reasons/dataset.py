"""What the dataset builder finds out and makes."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.shards import DataIndex
from barnraise.core.reason import Reason
from coordinator.reasons.source_files import SourceFiles


@dataclass(frozen=True)
class BadRow(Reason):
    """A row that cannot be trained on."""

    where: str
    """File and line."""
    problem: str
    """What is wrong with it: the rest of a sentence that begins with the place."""
    fix: str


@dataclass(frozen=True)
class DatasetReport:
    """What the rows of a dataset hold, and what of it is not trained on."""

    rows: int
    """All rows, bad ones included."""
    records: int
    """Records that they give."""
    bad_rows: int
    first_bad: tuple[BadRow, ...]
    """The first bad rows, at most five."""
    blank: int
    """Rows whose text is blank."""
    disliked: int
    """Rows whose label says that the answer is a bad one."""
    untrained: int
    """The assistant's messages that are context only: of the weight 0, or in a prompt."""
    lacking: int
    """Rows without the field that `data.text_field` names, which were recognized by their shape."""
    other_splits: tuple[tuple[str, int], ...]
    """Splits that are not trained on in files that hold several, and their rows."""
    shapes: tuple[tuple[str, int], ...]
    """How rows were recognized, and how many, the most frequent first."""
    unused: tuple[tuple[str, int], ...]
    """Fields that have no meaning for training, and how many rows hold them, the most frequent first."""


@dataclass(frozen=True)
class RenderReport:
    """How records were rendered, and what of them is not trained on."""

    template: str
    """Where the chat template is from: `tokenizer`, a file's path, or `built-in NAME`."""
    methods: tuple[tuple[str, int], ...]
    """How the trained parts were found, and in how many records, the most frequent first.
    `text`: all of it. `marks`: by the template's `{% generation %}`. `prefixes`: the beginning of a chat
    renders to the beginning of its text. `built-in NAME`: by the marks of a built-in template that writes
    the same text. `search`: the content of the assistant's turns was searched for."""
    ignored: tuple[tuple[str, int], ...]
    """Fields that the chat template does not write, and how many turns have them, or records have tools."""
    trimmed: int
    """Chats that lost turns at their start, because they were too long."""
    trimmed_turns: int
    trimmed_tokens: int
    dropped: int
    """Chats that were left out, because not even the last exchange fits."""
    dropped_tokens: int
    bad_rows: int
    """Records that the chat template rejects, or that cannot be trained on once they are rendered."""
    first_bad: tuple[BadRow, ...]
    """The first of them, at most five."""
    short: int = 0
    """Texts of one token, which no other predicts."""


@dataclass(frozen=True)
class BuiltDataset:
    """A dataset in shards."""

    index: DataIndex
    """What peers train on."""
    held_out: DataIndex
    """What checkpoints are evaluated on; without shards if nothing is held out."""
    records: int
    """Records in the dataset."""
    held_out_records: int
    """Records among them that are held out."""
    chat_template: str | None
    """The template of chats, which checkpoints carry.
    None for texts alone, where the tokenizer has no template either."""
    report: DatasetReport
    """What its rows hold."""
    rendering: RenderReport
    """How its records were rendered."""
    preview: str
    """The first packed sample as text, as the model sees it: documents, their trained parts between ⟦ and ⟧,
    padding."""
    longest_document: int
    """Tokens of the longest document."""
    documents: int
    """Documents in the training samples; the parts of one that was cut count each."""
    sources: tuple[SourceFiles, ...] = ()
    """The files that were read, of each source."""

    @property
    def padding(self) -> float:
        """The share of the training samples that is padding, on which volunteers compute in vain."""
        return 1 - self.index.tokens / (self.index.samples * self.index.sequence_length)


@dataclass(frozen=True)
class ReadingDataset(Reason):
    """The builder starts to read."""

    source: str


@dataclass(frozen=True)
class RecordsTokenized(Reason):
    """The builder advances."""

    records: int


@dataclass(frozen=True)
class NothingHeldOut(Reason):
    """The spec asks for held-out records, and the dataset has too few different records for one."""


@dataclass(frozen=True)
class BeyondPositions(Reason):
    """Documents are longer than the sequences that the model was trained on; it can compute them."""

    longest_document: int
    positions: int


@dataclass(frozen=True)
class DatasetBuilt(Reason):
    """The builder is done."""

    records: int
    samples: int
    trained_tokens: int


BuildStep = ReadingDataset | RecordsTokenized | NothingHeldOut | BeyondPositions | DatasetBuilt
"""What the builder reports while it works."""
