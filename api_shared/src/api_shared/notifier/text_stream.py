"""The text that a job streams while it runs, on its way to its listeners."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Written:
    """A stretch of the text of one claim. `offset` counts characters from the beginning."""

    claim_no: int
    offset: int
    text: str

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


@dataclass(slots=True, eq=False)
class Outgoing:
    """
    The text of one claim that no listener can read yet.

    It is kept until Redis has it, so that an outage leaves no gap in the text. Text that was sent
    and not confirmed is sent again from the same offset; a reader skips what it has already.
    """

    job_id: str
    claim_no: int
    _confirmed: int = 0
    _unsent: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self._unsent.append(text)

    def unsent(self) -> Written | None:
        """The text that is not confirmed yet, as one stretch."""
        if not self._unsent:
            return None
        self._unsent = ["".join(self._unsent)]
        return Written(self.claim_no, self._confirmed, self._unsent[0])

    def confirm(self, written: Written) -> None:
        """Note that listeners can read up to the end of `written`."""
        surplus = written.end - self._confirmed
        if surplus > 0:
            rest = "".join(self._unsent)[surplus:]
            self._unsent = [rest] if rest else []
            self._confirmed = written.end
