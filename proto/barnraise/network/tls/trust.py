"""Which keys a client takes a server's certificate from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import BadSignature, TrustError, UserError, WrongRunKey
from barnraise.core.ids import PublicKey, RunId, short
from barnraise.core.signed import open_signed
from barnraise.network.tls.certificates import ShownKey


@dataclass(frozen=True)
class Trust:
    """Whose servers answer for a run."""

    run: RunId
    first: PublicKey
    """The run's first key, from the invite."""
    keys: KeysInForce | None = None
    """Those in force, where more is known than the invite says."""

    @classmethod
    def of(cls, invite: Invite, keys: KeysInForce | None = None) -> Trust:
        """By an invite."""
        return cls(invite.run, invite.key, keys)

    @property
    def pinned(self) -> tuple[PublicKey, ...]:
        """The keys that are known to sign for the run."""
        signers = self._signers
        return tuple(dict.fromkeys((*signers.current, *sorted(signers.closers))))

    @property
    def _signers(self) -> Signers:
        return Signers(self.first) if self.keys is None else self.keys.signers

    def admits(self, shown: ShownKey) -> bool:
        """Whether the key is one that counts, by itself or by the statements that it shows."""
        try:
            return shown.key in self._signers.introduced(shown.successors, self.run)
        except BadSignature:
            return False

    def admits_by_charter(self, key: PublicKey, charter: bytes) -> bool:
        """Whether a charter that the first key signed names the key as a closer.

        It counts for a client that knows nothing newer.
        """
        if self.keys is not None:
            return False
        try:
            opened = open_signed(Charter, charter, signer=self.first, limit=MAX_CHARTER_BYTES)
        except TrustError:
            return False
        return opened.value.run == self.run and key in KeysInForce.of(opened.value).closers

    def other_run(self, endpoint: Endpoint, run: RunId) -> UserError:
        """The error where a server is another run's."""
        return UserError(
            f"the coordinator at {endpoint} serves the run {run}, the invite is for {self.run}",
            fix="Ask the maintainer for the invite of the run that you want.",
        )

    def refusal(self, endpoint: Endpoint, key: PublicKey) -> WrongRunKey:
        """The error where a server shows a key that does not count."""
        return WrongRunKey(
            f"the server at {endpoint} has the key {short(key)}…, the invite says {short(self.first)}…",
            fix="Another server has that address, or the run was created again: ask for a new invite.",
        )
