"""How `coordinator serve` starts again by itself."""

from __future__ import annotations

from coordinator.addresses.announced import Bound
from coordinator.serve import ServeSettings
from tests.support.listening import LISTENING


def test_a_run_is_recovered_or_begun_once() -> None:
    """A second recovery would resume the run again, and void what its closers have decided since."""
    settings = ServeSettings(
        **LISTENING,
        mirrors=("http://mirror.example.org",),
        invite_nodes=(),
        max_download=None,
        rehearsal_memory=None,
        recover_from="http://mirror.example.org",
        new_run=True,
    )
    again = settings.on(Bound("127.0.0.1", 1, 2, 3))
    assert (again.port, again.p2p_port, again.http_port) == (1, 2, 3)
    assert (again.recover_from, again.new_run) == (None, False)
    assert again.mirrors == settings.mirrors
