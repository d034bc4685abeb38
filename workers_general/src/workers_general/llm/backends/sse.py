"""The reader of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations


class EventTooLarge(Exception):
    """An event is over the limit; nothing of it is kept."""


class EventReader:
    """Turns bytes, split anywhere, into the data of whole events."""

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._data: list[str] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> list[str]:
        """The data of the events that `chunk` completes. Raises `EventTooLarge`."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = [self._line(line.removesuffix(b"\r")) for line in lines]
        if len(self._rest) + self._size_bytes > self._max_event_bytes:
            raise EventTooLarge
        return [event for event in found if event is not None]

    def _line(self, line: bytes) -> str | None:
        if not line:
            event = "\n".join(self._data) if self._data else None
            self._data, self._size_bytes = [], 0
            return event
        field, _, value = line.partition(b":")
        if field == b"data":
            self._size_bytes += len(value)
            if self._size_bytes > self._max_event_bytes:
                raise EventTooLarge
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None
