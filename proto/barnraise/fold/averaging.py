"""The mean of several states' parameters, bit-exact: the coordinator and `peer verify` compute the same.

Averages of the newest checkpoints predict held-out text better than the newest one while the rate is high
(Kaddour 2022, "Stop Wasting My Time!", arXiv:2209.14981).

The arithmetic is that of the fold: elementwise fp32 with one rounding for each operation. The states are
added from the oldest to the newest, and the sum is divided by their number. Buffers are left out, since
nobody trains from a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from barnraise.contract.state import Array, Tensors


class RunningMean:
    """Adds states one after another. Needs the memory of one state's parameters."""

    def __init__(self) -> None:
        self._sum: dict[str, Array] = {}
        self._count = 0

    def add(self, params: Tensors) -> None:
        """Add a state that is newer than those before. params: of the same names and shapes, fp32."""
        for name, array in params.items():
            if self._count:
                np.add(self._sum[name], array, out=self._sum[name])
            else:
                self._sum[name] = array.copy()
        self._count += 1

    def mean(self) -> dict[str, Array]:
        """The mean of what was added, at least one state. Afterwards nothing can be added."""
        count = np.float32(self._count)
        for array in self._sum.values():
            np.divide(array, count, out=array)
        return self._sum


def mean_of(arrays: Iterable[Array]) -> Array:
    """The mean of one tensor of several states, oldest first: fp32, of the same shape."""
    running = RunningMean()
    for array in arrays:
        running.add({"": array})
    return running.mean()[""]


def each_mean(names: Iterable[str], states: Sequence[Callable[[str], Array]]) -> Iterable[tuple[str, Array]]:
    """The mean of each tensor, one after another, so that memory has two tensors at a time.

    states: read the tensor of a name of one state, oldest first.
    """
    for name in names:
        yield name, mean_of(read(name) for read in states)
