"""The metadata of a file of many results: what they share, and what differs between them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from shine.errors import InputError, explain
from shine.provenance import digest
from shine.result_schema import CONVENTIONS, SCHEMA_VERSION
from shine.results import LEFT_OUT

Text = Mapping[str, str]

PROVENANCE_KEYS = ("git_commit", "code_digest", "package_versions", "config_hash", "seed")
COMMON = {"schema_version": SCHEMA_VERSION, "conventions": CONVENTIONS}
INPUTS = "input_hashes"


def text_of(schema: pa.Schema) -> dict[str, str]:
    """The metadata of a table as text, without what pyarrow keeps for itself."""
    found = schema.metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}


def merge_metadata(texts: Sequence[Text], paths: Sequence[Path], n_results: int) -> dict[str, str]:
    """The metadata of a table that holds those of `paths`, of `n_results` sub-tiles together.

    What differs between them becomes a JSON list, and what they left out is added up. Raises
    `InputError` naming two that were made with different settings.
    """
    if not texts:
        return dict(COMMON)
    merged = dict(COMMON)
    for text, path in zip(texts, paths, strict=True):
        if text["config_hash"] != texts[0]["config_hash"]:
            raise InputError(
                f"{paths[0]} and {path}: made with different settings (config_hash "
                f"{texts[0]['config_hash'][:12]} and {text['config_hash'][:12]}), expected the "
                "same; run the workflow again"
            )
    for key in PROVENANCE_KEYS:
        values = sorted({value for text in texts for value in _values(text[key])})
        merged[key] = values[0] if len(values) == 1 else json.dumps(values)
    # one digest over all inputs: at survey scale a list of them would outgrow the catalogue
    inputs = digest(text[INPUTS] for text in texts)
    merged[INPUTS] = json.dumps({f"{n_results} results": inputs})
    merged[LEFT_OUT] = _summed(json.loads(text[LEFT_OUT]) for text in texts)
    return merged


def check_metadata(text: Text, path: Path, action: str) -> None:
    """Raise `InputError` if a table of many results lacks what `merge_metadata` gives it."""
    absent = [key for key in (*COMMON, *PROVENANCE_KEYS, INPUTS, LEFT_OUT) if key not in text]
    if absent:
        raise InputError(explain(path, f"no metadata {', '.join(absent)}", "all", action))
    if text["schema_version"] != SCHEMA_VERSION:
        found = f"schema version {text['schema_version']}"
        raise InputError(explain(path, found, f"version {SCHEMA_VERSION}", action))


def _values(text: str) -> list[str]:
    """What a key stands for: itself, or each of the values that were merged before."""
    return json.loads(text) if text.startswith("[") else [text]


def _summed(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> str:
    """Sources and pixels left out of all sub-tiles; what two of them share counts twice."""
    total: dict[str, Counter[str]] = {}
    for one in counts:
        for kind, by_reason in one.items():
            total.setdefault(kind, Counter()).update(by_reason)
    return json.dumps(total)
