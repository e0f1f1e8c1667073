"""A and B of an adapter by turns: a round trains one of them, so that the mean of the machines is exact.

The mean of products B·A is not the product of the means, unless A or B is the same everywhere (Chen et al.
2024, "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA").
"""

from __future__ import annotations

from barnraise.contract.state import TrainState
from peer.training.trainer import Trainer

FACTORS = ("lora_B", "lora_A")


def resting(number: int) -> str:
    """The factor that round `number` leaves as it is. B is first: while it is zero, A has no gradient."""
    return FACTORS[1 - number % 2]


def hold(trainer: Trainer, start: TrainState, factor: str) -> None:
    """Undo the last step for `factor`, which is as in `start`; its optimizer's moments go on."""
    local = trainer.params()
    kept = {name: start.params[name] if f".{factor}." in name else array for name, array in local.items()}
    trainer.merge(local, TrainState(kept))
