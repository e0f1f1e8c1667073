"""The samples of `scripts/bench learning` and `convergence`."""

import numpy as np

from barnraise.contract.shards import IGNORED
from scripts.benchmarks.arms.samples import in_samples

TOKENS = np.arange(1, 10)


def test_samples_follow_one_another() -> None:
    assert [list(sample.input_ids) for sample in in_samples(TOKENS, 4)] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_every_sample_begins_with_the_same_token_and_is_trained_on_the_others() -> None:
    samples = in_samples(TOKENS, 4, first=0)
    assert [list(sample.input_ids) for sample in samples] == [[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 8, 9]]
    assert [list(sample.labels) for sample in samples] == [
        [IGNORED, *sample.input_ids[1:]] for sample in samples
    ]
    assert all(list(sample.position_ids) == [0, 1, 2, 3] for sample in samples)
