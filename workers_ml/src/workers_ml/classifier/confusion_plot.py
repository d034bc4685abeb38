"""A plot of a confusion matrix, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MAX_CLASSES = 100
"""With more, the labels would be unreadable and the plot would be huge."""

MAX_LABEL = 28
CELL, MARGIN = 26, 12
INK, PAPER, FULL = (32, 32, 32), (255, 255, 255), (8, 69, 148)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def plot_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> bytes | None:
    """
    True classes down, predicted ones across; the darker, the larger a cell's share of its row.

    None for more than 100 classes. Pillow draws it: it is a tenth of the size of matplotlib, and
    has a font, which a PNG writer of our own would lack.
    """
    if len(classes) > MAX_CLASSES:
        return None
    font = ImageFont.load_default(13)
    labels = [_short(label) for label in classes]
    space = int(max(font.getlength(label) for label in labels)) + 2 * MARGIN
    size = space + CELL * len(classes) + MARGIN
    image = Image.new("RGB", (size, size), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), "true down,", INK, font)
    draw.text((MARGIN, MARGIN + 16), "predicted across", INK, font)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for row, label in enumerate(labels):
        middle = space + row * CELL + CELL // 2
        draw.text((space - MARGIN // 2, middle), label, INK, font, anchor="rm")
        _write_upwards(image, label, middle, space - MARGIN // 2, font)
        for column in range(len(labels)):
            _draw_cell(
                draw,
                (space + column * CELL, space + row * CELL),
                int(confusion[row, column]),
                float(shares[row, column]),
            )
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw_cell(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], count: int, share: float
) -> None:
    x, y = corner
    colour = tuple(
        round(paper + (full - paper) * share) for paper, full in zip(PAPER, FULL, strict=True)
    )
    draw.rectangle((x, y, x + CELL, y + CELL), fill=colour, outline=(224, 224, 224))
    if count:
        ink = PAPER if share > 0.5 else INK
        small = ImageFont.load_default(11 if count < 1000 else 8)
        draw.text((x + CELL / 2, y + CELL / 2), str(count), ink, small, anchor="mm")


def _write_upwards(image: Image.Image, text: str, x: int, bottom: int, font: Font) -> None:
    label = Image.new("RGB", (int(font.getlength(text)) + 4, 18), PAPER)
    ImageDraw.Draw(label).text((2, 9), text, INK, font, anchor="lm")
    turned = label.rotate(90, expand=True)
    image.paste(turned, (x - 9, bottom - turned.height))


def _short(label: str) -> str:
    """On one line, and printable: the label comes from a user."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in label)
    return plain if len(plain) <= MAX_LABEL else f"{plain[: MAX_LABEL - 1]}…"
