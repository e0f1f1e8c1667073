"""The words of everything found out before a run starts; no other test asserts them."""

from __future__ import annotations

import pytest

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sgd, Sparse
from coordinator.messages.setup import (
    base_delivery,
    codec_choice,
    codec_setting,
    not_redistributable,
    spec_warning,
)
from coordinator.reasons.setup import (
    BaseChanged,
    BaseDelivery,
    BaseNotServed,
    BaseServed,
    CodecChoice,
    CodecOption,
    DensityTooLow,
    ExchangeTooLong,
    GraceTooShort,
    MuonOverhead,
    NotRedistributable,
    OuterStrays,
    RateStrays,
    SparseNotNeeded,
    SparseWithAdamW,
    SpecWarning,
    TurnsWithMomentum,
)

SHORT = CodecChoice(1.68, 300, larger=None, rounds=None, too_long=False, sparse_by_diloco=False)


def test_not_redistributable() -> None:
    words = "data.licence is 'llama2', which is not known to permit redistribution"
    assert not_redistributable(NotRedistributable("data.licence", "llama2")) == words


def test_base_delivery() -> None:
    refused = BaseNotServed(NotRedistributable("model.licence", "unknown"))
    why = "model.licence is 'unknown', which is not known to permit redistribution"
    assert base_delivery(BaseDelivery("mine", False, BaseServed(2_000_000))) == (
        "volunteers can fetch the base model from this run (2 MB)"
    )
    assert base_delivery(BaseDelivery("owner/name", True, refused)) == (
        f"the base model is not served ({why}); volunteers fetch owner/name themselves"
    )
    assert base_delivery(BaseDelivery("mine", False, refused)) == (
        f"WARNING: the base model is not served ({why}), and 'mine' is only on this machine."
        " Each volunteer has to get exactly this model from you and join with --base PATH."
        " If its licence permits redistribution, name it as model.licence in a new run."
    )
    changed = BaseDelivery("owner/name", True, BaseNotServed(BaseChanged()))
    assert "its files are not those that the run began with" in base_delivery(changed)


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        (Raw(), 'kind = "raw"'),
        (Dense(bits=2), 'kind = "dense", bits = 2'),
        (Sparse(density=0.125, bits=4), 'kind = "sparse", density = 0.125, bits = 4'),
    ],
)
def test_codec_setting(codec: CodecSpec, words: str) -> None:
    assert codec_setting(codec) == words


def test_codec_choice() -> None:
    assert codec_choice(SHORT) == "a round's exchange takes 1.7 s, 0.6% of 300 s"
    sparse = CodecChoice(
        400.0,
        300,
        CodecOption(Sparse(density=1 / 32, bits=2), 800.0),
        256,
        too_long=True,
        sparse_by_diloco=False,
    )
    assert codec_choice(sparse) == (
        "a round's exchange takes 400 s, 133.3% of 300 s;"
        ' with kind = "sparse", density = 0.03125, bits = 2 it would take 800 s;'
        " plan 256 rounds or more, or updates that wait to be sent are lost;"
        " nothing smaller is worthwhile, so make the rounds longer"
    )
    dense = CodecChoice(400.0, 300, None, None, too_long=True, sparse_by_diloco=True)
    assert codec_choice(dense).endswith(
        'longer (or set train.method = "diloco", which permits a sparse codec)'
    )


@pytest.mark.parametrize(
    ("warning", "words"),
    [
        (
            ExchangeTooLong(0.43, True, 129, Dense(bits=4)),
            "the exchange takes 43% of a round, above 10%: training continues meanwhile, one round behind the"
            ' others. Set round.seconds to 129 or more, or set codec to kind = "dense", bits = 4.',
        ),
        (
            ExchangeTooLong(2.0, False, None, None),
            "the exchange takes 200% of a round, above 10%: training pauses. No round.seconds is long enough:"
            " lower round.max_contributions, or train an adapter instead of the whole model.",
        ),
        (
            ExchangeTooLong(0.43, False, 129, None),
            "the exchange takes 43% of a round, above 10%: training pauses."
            " Set round.seconds to 129 or more.",
        ),
        (
            GraceTooShort(10, 20, None),
            "the exchange takes longer than round.grace (10 s), so some contributions will be late."
            " Set round.grace to 20 or more.",
        ),
        (
            SparseNotNeeded(Dense(bits=4), SHORT),
            "the sparse codec delays updates to save bytes that need not be saved here."
            ' Set codec to kind = "dense", bits = 4: a round\'s exchange takes 1.7 s, 0.6% of 300 s.',
        ),
        (
            DensityTooLow(0.005),
            "at codec.density 0.005 updates arrive too late to be of use. Set it to 0.015625 or more.",
        ),
        (
            SparseWithAdamW(Dense(bits=2)),
            "the outer AdamW takes values that a sparse codec leaves out for gradients of zero."
            ' Set codec to kind = "dense", bits = 2.',
        ),
        (
            MuonOverhead(1.2, 4, 18),
            "Muon adds 120% to the work of a step of 4 samples; its work does not grow with the batch."
            ' Set train.batch to 18 or more, or train.inner.optimizer to "adamw".',
        ),
    ],
)
def test_spec_warning(warning: SpecWarning, words: str) -> None:
    assert spec_warning(warning) == words


def test_settings_that_learn_less() -> None:
    step = Sgd(lr=0.7, momentum=0.7, nesterov=True)
    assert spec_warning(OuterStrays(8, 56, step, 83)) == (
        "with 8 volunteers the mean of a round kept 56 % of what data parallel training gains over one"
        " machine, and another outer step 83 % (docs/PERFORMANCE.md). Set outer.lr to 0.7, outer.momentum to"
        " 0.7 and outer.nesterov to true."
    )
    assert spec_warning(TurnsWithMomentum(40, 32)).startswith("of 40 volunteers at most 32 contribute")
    assert "Set it to about 0.0013." in spec_warning(RateStrays(1e-4, 1.32e-3))
