"""Small copies of the sub-tiles' pictures, in the page itself as long as that stays light."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from shine.errors import InputError, explain

VIEW_PX, THUMBNAIL_PX, QUALITY = 1440, 320, 70  # widths; of WebP
EMBEDDED_BYTES = 6_000_000  # of pictures in a page, as text: the page shall load with 10 MB
MOST_VIEWS = 100  # beyond, pictures of VIEW_PX need not even be tried


@dataclass(frozen=True)
class Picture:
    """A copy of a picture: where it is (a data URI or a relative path), and its size in pixels."""

    src: str
    width: int
    height: int

    @property
    def is_view(self) -> bool:
        """Whether it is large enough to be looked at in place of the original."""
        return self.width > THUMBNAIL_PX


def copy_pictures(panels: Mapping[str, Path], folder: Path) -> dict[str, Picture]:
    """Copies of the PNG files `panels`, by the same names; written to `folder` if they are many.

    Few are embedded as large ones, more as thumbnails. Raises `InputError` naming a file that is
    no picture.
    """
    for width in (VIEW_PX, THUMBNAIL_PX):
        if width == VIEW_PX and len(panels) > MOST_VIEWS:
            continue
        copies = _copies(panels, width)
        if sum(len(content) * 4 // 3 for content, _ in copies.values()) <= EMBEDDED_BYTES:
            return {
                name: Picture(f"data:image/webp;base64,{b64encode(content).decode()}", *size)
                for name, (content, size) in copies.items()
            }
    for name, (content, _) in copies.items():
        (folder / f"{name}.webp").write_bytes(content)
    return {
        name: Picture(f"{folder.name}/{name}.webp", *size) for name, (_, size) in copies.items()
    }


def replace_folder(old: Path, new: Path) -> None:
    """Put a folder in the place of another, which is removed."""
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


def _copies(panels: Mapping[str, Path], width: int) -> dict[str, tuple[bytes, tuple[int, int]]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow works outside of Python's lock
        return dict(
            zip(panels, pool.map(partial(_copy, width=width), panels.values()), strict=True)
        )


def _copy(path: Path, width: int) -> tuple[bytes, tuple[int, int]]:
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is a damaged PNG's
        raise InputError(
            explain(path, f"no readable image ({error})", "a PNG", "Run the sub-tile again.")
        ) from error
    size = (min(width, image.width), max(round(image.height * min(width / image.width, 1.0)), 1))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue(), size
