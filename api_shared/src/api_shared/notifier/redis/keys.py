"""The names of channels and keys. Wire names: they never change."""

from __future__ import annotations

from dataclasses import dataclass

from api_shared.errors import InvalidOption
from api_shared.notifier.events import JobEvent


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str

    @property
    def all_jobs(self) -> str:
        return f"{self.prefix}:jobs"

    @property
    def cancel(self) -> str:
        return f"{self.prefix}:cancel"

    @property
    def results(self) -> str:
        return f"{self.prefix}:result"

    def result(self, job_id: str) -> str:
        return f"{self.results}:{job_id}"

    def text(self, job_id: str) -> str:
        """The stream that holds the text of a job."""
        return f"{self.prefix}:text:{job_id}"

    def text_news(self, job_id: str) -> str:
        """The channel that announces more text of a job."""
        return f"{self.prefix}:text-news:{job_id}"

    def is_text_news(self, channel: str) -> bool:
        return channel.startswith(f"{self.prefix}:text-news:")

    def channels_of(self, event: JobEvent) -> list[str]:
        """The channels of an event."""
        channels = [f"{self.prefix}:job:{event.job_id}", self.all_jobs]
        if event.owner is not None:
            channels.append(f"{self.prefix}:owner:{event.owner}")
        return channels

    def channel_for(self, *, job_id: str | None, owner: str | None) -> str:
        """The channel of one job, of one owner, or of all jobs."""
        if job_id is not None and owner is not None:
            raise InvalidOption(
                "owner", owner, "must not be given with a job: listen to one job or to one owner"
            )
        if job_id is not None:
            return f"{self.prefix}:job:{job_id}"
        return self.all_jobs if owner is None else f"{self.prefix}:owner:{owner}"
