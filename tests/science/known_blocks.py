"""Blocks of a campaign whose biases are known."""

import numpy as np
import pyarrow as pa

from constellation.validation.records import Answer, Block
from constellation.validation.shears import shears

M, C, CROSS = np.array([0.02, -0.03]), np.array([1e-3, -2e-3]), np.array([0.004, -0.006])
UNITS = 40


def block(number: int, noise: float = 0.0, rng=None, c=C) -> Block:
    """A block whose answers have known biases, and units that move them by noise."""
    answers, tables = [], []
    for g in shears(0.02, number):
        true = np.array(g)
        moves = noise * rng.standard_normal((UNITS, 2)) if noise else np.zeros((UNITS, 2))
        found = (1.0 + M) * true + CROSS * true[::-1] + c + moves.sum(axis=0)
        answers.append(
            Answer("marginal", g, tuple(found), (1.0, 0.0, 1.0), None, 64, True, 1.0, 1.0, 1.0,
                   (0.0, 0.0), 1.0, 1.0)
        )  # fmt: skip
        columns = {"TRUE_G1": g[0], "TRUE_G2": g[1], "METHOD": "marginal"}
        table = {name: [value] * UNITS for name, value in columns.items()}
        table |= {"MOVES_G1": moves[:, 0], "MOVES_G2": moves[:, 1]}
        names = ("METHOD", "TRUE_G1", "TRUE_G2", "MOVES_G1", "MOVES_G2")
        tables.append(pa.table({name: table[name] for name in names}))
    return Block("case", number, answers, tables)
