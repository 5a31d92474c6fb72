"""Parts of a survey that are planned and run by themselves: `3/60` is the third of sixty.

A part is a range of the tile list in the order of the tiles' indices, which run along rows of
declination: most neighbours, which share frames and catalogues, are in one part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

MERGE = "merge"  # instead of a part: nothing is left but to merge the tiles of all parts
_NAME = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `of` parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/60`; raises `ValueError`."""
        match = _NAME.fullmatch(text)
        if match is None or not int(match[1]) <= int(match[2]):
            raise ValueError(f"expected a part and the number of parts, such as 3/60, or {MERGE}")
        return cls(int(match[1]), int(match[2]))

    def of_items(self, items: Sequence[Item]) -> Sequence[Item]:
        """This part's range of `items`: all parts together have each once, as even as can be."""
        first, last = (len(items) * k // self.of for k in (self.number - 1, self.number))
        return items[first:last]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
