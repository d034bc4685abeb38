"""The text that a job writes while it runs, on its way to those who listen."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Written:
    """A stretch of what one claim has written; `offset` counts characters from its beginning."""

    claim_no: int
    offset: int
    text: str

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


@dataclass(slots=True, eq=False)
class Outgoing:
    """
    What one claim has written and no listener can read yet.

    It is kept until Redis has it, so that an outage tears no hole into the text: what was sent and
    not confirmed is sent again, from the same offset, and a reader passes over what it has.
    """

    job_id: str
    claim_no: int
    _confirmed: int = 0
    _unsent: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self._unsent.append(text)

    def unsent(self) -> Written | None:
        """All that is not confirmed yet, as one stretch."""
        if not self._unsent:
            return None
        self._unsent = ["".join(self._unsent)]
        return Written(self.claim_no, self._confirmed, self._unsent[0])

    def confirm(self, written: Written) -> None:
        """Listeners can read up to the end of `written`."""
        surplus = written.end - self._confirmed
        if surplus > 0:
            rest = "".join(self._unsent)[surplus:]
            self._unsent = [rest] if rest else []
            self._confirmed = written.end
