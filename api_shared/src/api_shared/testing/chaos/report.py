"""The report of a scenario: the same counts for each, and its own findings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from api_shared.ledger.audit import Audit


@dataclass(frozen=True, slots=True)
class Report:
    """
    `audit` is what `kiq verify` counts. `findings` are other failures, as text.

    `recovery_s`: for each job that a death interrupted, the seconds until it ran again. `figures`:
    other numbers worth reading, by name.
    """

    audit: Audit
    findings: tuple[str, ...] = ()
    recovery_s: tuple[float, ...] = ()
    figures: dict[str, int | float | str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.audit.is_sound and not self.audit.open and not self.findings

    def checked(self, held: object, otherwise: str) -> Report:
        """This report, with a finding unless `held`, for what only the audit shows."""
        return self if held else replace(self, findings=(*self.findings, otherwise))

    def recovery_at(self, quantile: float) -> float | None:
        """Seconds; None where nothing had to recover."""
        if not self.recovery_s:
            return None
        ordered = sorted(self.recovery_s)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
