"""Media types of files, by their first bytes: https://www.iana.org/assignments/media-types."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaType:
    """`suffix` is the extension of the file name, without the dot."""

    content_type: str
    suffix: str


def image_type(data: bytes) -> MediaType | None:
    """None if it is not an image of a known kind."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return MediaType("image/png", "png")
    if data.startswith(b"\xff\xd8\xff"):
        return MediaType("image/jpeg", "jpg")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return MediaType("image/webp", "webp")
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return MediaType("image/gif", "gif")
    return None


def audio_type(data: bytes) -> MediaType | None:
    """None if it is not audio of a known kind."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return MediaType("audio/wav", "wav")
    if data.startswith(b"fLaC"):
        return MediaType("audio/flac", "flac")
    if data.startswith(b"OggS"):
        return MediaType("audio/ogg", "ogg")
    if data.startswith(b"ID3"):
        return MediaType("audio/mpeg", "mp3")
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return MediaType("audio/aac", "aac")
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06:
        return MediaType("audio/mpeg", "mp3")
    return None
