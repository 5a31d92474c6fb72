"""What a block's run leaves behind: one small Parquet file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shine.atomic import write_atomically
from shine.errors import InputError, explain

_KEY = b"validation block"
_SCHEMA = pa.schema(
    [
        ("METHOD", pa.string()),
        ("TRUE_G1", pa.float64()),
        ("TRUE_G2", pa.float64()),
        ("MOVES_G1", pa.float64()),
        ("MOVES_G2", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Answer:
    """What one method says of one image; shears are reduced, u west, v north."""

    method: str
    true_shear: tuple[float, float]
    shear: tuple[float, float]
    covariance: tuple[float, float, float]  # of g1, of both, of g2
    ellipticity_sigma: float | None  # where inferred
    n_galaxies: int  # that carry shear
    converged: bool
    settled_share: float  # of the galaxies whose fits converged
    chi2_per_pixel: float
    cpu_s: float  # of the whole run, compilation included
    # mean of fitted minus true position, west and north; medians of fitted over true
    position_arcsec: tuple[float, float] | None = None
    flux_ratio: float | None = None
    size_ratio: float | None = None


@dataclass(frozen=True)
class Cost:
    """What the making took: drawing, files and all methods."""

    wall_s: float = 0.0
    processor_s: float = 0.0  # of all threads, from the start of the process


@dataclass(frozen=True)
class Block:
    """A case's answers on one set of galaxies, and how each unit of them moves the shear.

    The units of all methods and shears are in the same order.
    """

    case: str
    block: int
    answers: list[Answer]
    influence: list[pa.Table]  # rows of `_SCHEMA`
    ranks: dict[str, list[float]] = field(default_factory=dict)  # see `validation.ranks`
    cost: Cost = Cost()

    def write(self, path: Path) -> None:
        """Write the block, atomically."""
        about = {
            "case": self.case,
            "block": self.block,
            "answers": list(map(asdict, self.answers)),
            "ranks": self.ranks,
            "cost": asdict(self.cost),
        }
        parts = [part.cast(_SCHEMA) for part in self.influence]
        table = pa.concat_tables([_SCHEMA.empty_table(), *parts])
        table = table.replace_schema_metadata({_KEY: json.dumps(about)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, sink.getvalue().to_pybytes())

    @classmethod
    def read(cls, path: Path) -> Block:
        """Read a block; raises `InputError` if the file is none."""
        try:
            table = pq.read_table(path)
            about = json.loads(table.schema.metadata[_KEY])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            problem = " ".join(str(error).split())
            action = "Delete it and run `make validate` again."
            raise InputError(explain(path, problem, "a block of a campaign", action)) from error
        answers = [
            Answer(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
            for row in about["answers"]
        ]
        return cls(
            about["case"],
            about["block"],
            answers,
            [table.replace_schema_metadata()],
            about["ranks"],
            Cost(**about["cost"]),
        )


def total_cost(blocks: list[Block]) -> Cost:
    """What blocks took, one after the other."""
    return Cost(
        wall_s=sum(block.cost.wall_s for block in blocks),
        processor_s=sum(block.cost.processor_s for block in blocks),
    )
