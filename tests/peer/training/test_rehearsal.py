"""A volunteer's rehearsal: what it accepts, and what it names."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.spec import DataSpec, Lora, ModelSpec, RunSpec, TrainSpec
from barnraise.rehearsal.isolation import Isolated
from barnraise.rehearsal.outcomes import DocumentsMixed, NoGradient
from barnraise.rehearsal.samples import RehearsalSamples
from peer.training.trainer import Trainer
from tests.support.devices import CPU
from tests.support.model_kinds import make_kind
from tests.support.tiny import make_tiny_model, tiny_samples

LENGTH = 48
SAMPLES = RehearsalSamples.of(tiny_samples(2, LENGTH))


def trainer(model: Path, packing: str = "always", modules: tuple[str, ...] = ("q_proj",)) -> Trainer:
    data = DataSpec.model_validate({"source": "x", "sequence_length": LENGTH, "packing": packing})
    train = TrainSpec(target=Lora(rank=2, modules=modules))
    return Trainer(model, RunSpec(name="barn", model=ModelSpec(), data=data, train=train), CPU)


def test_a_model_that_trains(tmp_path: Path) -> None:
    rehearsing = trainer(make_tiny_model(tmp_path / "model"))
    before = rehearsing.params()
    assert rehearsing.rehearse(SAMPLES) == Isolated(packed=True)
    after = rehearsing.params()
    assert all((after[name] == before[name]).all() for name in before), "the rehearsal trained"


def test_documents_that_see_each_other(tmp_path: Path) -> None:
    model = make_kind("opt", tmp_path / "model")
    assert isinstance(trainer(model).rehearse(SAMPLES), DocumentsMixed)
    assert trainer(model, "never").rehearse(SAMPLES) == Isolated(packed=False)


def test_layers_without_a_gradient(tmp_path: Path) -> None:
    model = make_kind("jamba", tmp_path / "model")
    fault = trainer(model, "never", ("q_proj", "dt_proj")).rehearse(SAMPLES)
    assert isinstance(fault, NoGradient)
    assert fault.count == 2
