"""The manifest of a sub-tile: which pixels and which sources make up one inference problem.

It is the whole contract between the survey's bookkeeping, which writes manifests, and the
inference, which reads them. `source_ids` and `core_source_ids` decide; `sky_bounds` are for people
and plots.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shine.atomic import write_atomically
from shine.errors import InputError, explain, list_problems
from shine.provenance import digest
from shine.yaml_files import read_bytes, read_yaml

WIDTH = 100  # of a line of YAML
GZIP_LEVEL = 6  # 9 takes twice the time for 1 % less

PathText = Annotated[str, Field(min_length=1)]
ObjectId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
RaRange = tuple[
    Annotated[float, Field(ge=0.0, le=360.0)], Annotated[float, Field(ge=0.0, le=360.0)]
]
DecRange = tuple[
    Annotated[float, Field(ge=-90.0, le=90.0)], Annotated[float, Field(ge=-90.0, le=90.0)]
]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SkyBounds(_Frozen):
    """Right ascension and declination ranges (lo, hi) in degrees, for people and plots.

    A right ascension range that crosses 0h has lo > hi: (359.9, 0.1) is 0.2 degrees wide.
    """

    core_ra: RaRange
    core_dec: DecRange
    extended_ra: RaRange
    extended_dec: DecRange

    @model_validator(mode="after")
    def _declinations_ascend(self) -> Self:
        for name in ("core_dec", "extended_dec"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must ascend, found [{low}, {high}]")
        return self


class QuadrantFiles(_Frozen):
    """The files that hold one detector quadrant's pixels: local paths or URIs.

    Several of the paths may name one multi-extension file.
    """

    sci_path: PathText = Field(description="science image, ADU, not background-subtracted")
    rms_path: PathText = Field(description="noise rms per pixel, ADU")
    flg_path: PathText = Field(description="bit mask of defects")
    psf_path: PathText = Field(description="grid of PSF stamps")
    bkg_path: PathText | None = Field(
        default=None,
        description="background, ADU; may be missing where inference.background measures it",
    )
    wgt_path: PathText | None = Field(
        default=None, description="weight map: pixels where it is 0 are not used"
    )
    quadrant: PathText | None = Field(
        default=None, description="quadrant such as 3-4.F; not needed if the file holds just one"
    )
    version: PathText | None = Field(
        default=None, description="DATASUM of the science image when the manifest was written"
    )

    @property
    def paths(self) -> set[str]:
        """The paths of all files that hold something of this quadrant."""
        return {path for layer in LAYERS if (path := getattr(self, layer)) is not None}


LAYERS = tuple(name for name in QuadrantFiles.model_fields if name.endswith("_path"))
Paths = PathText | Annotated[list[PathText], Field(min_length=1)]  # one or more


class Manifest(_Frozen):
    """One sub-tile: its quadrants, its catalogues, the sources modelled and those reported."""

    tile_id: int = Field(ge=0, lt=2**63)
    sub_tile_row: int = Field(ge=0, le=127)
    sub_tile_col: int = Field(ge=0, le=127)
    sky_bounds: SkyBounds
    quadrants: list[QuadrantFiles]
    source_catalog: Paths
    morphology_catalog: Paths | None = Field(
        default=None, description="MER morphology catalogues: Sersic radii to start from"
    )
    segmentation_map: Paths | None = Field(
        default=None, description="MER segmentation maps: the pixels of what is masked"
    )
    source_ids: list[ObjectId] = Field(description="sources of the extended area: modelled")
    core_source_ids: list[ObjectId] = Field(description="sources of the core area: reported")

    @model_validator(mode="after")
    def _lists_are_consistent(self) -> Self:
        _refuse_repeats("source_ids", self.source_ids)
        _refuse_repeats("core_source_ids", self.core_source_ids)
        _refuse_repeats("quadrants", [(f.sci_path, f.quadrant or "") for f in self.quadrants])
        known = set(self.source_ids)
        strangers = [object_id for object_id in self.core_source_ids if object_id not in known]
        if strangers:
            raise ValueError(
                f"core_source_ids has {len(strangers)} ids that source_ids lacks, "
                f"such as {strangers[:5]}"
            )
        return self

    @property
    def stem(self) -> str:
        """The name of the sub-tile's files without their suffix: `{tile}_{row}_{col}`."""
        return f"{self.tile_id}_{self.sub_tile_row}_{self.sub_tile_col}"

    @property
    def catalogs(self) -> tuple[str, ...]:
        """The paths of all source catalogues."""
        return _as_tuple(self.source_catalog)

    @property
    def morphology_catalogs(self) -> tuple[str, ...]:
        """The paths of all morphology catalogues."""
        return _as_tuple(self.morphology_catalog)

    @property
    def segmentation_maps(self) -> tuple[str, ...]:
        """The paths of all segmentation maps."""
        return _as_tuple(self.segmentation_map)

    @property
    def paths(self) -> set[str]:
        """The paths of all files that the manifest names."""
        tables = {*self.catalogs, *self.morphology_catalogs, *self.segmentation_maps}
        return tables.union(*(files.paths for files in self.quadrants))


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest; relative paths in it are resolved against the folder that it lies in.

    Raises InputError, naming the file and the key, if the file is missing, is no YAML, has unknown
    or missing keys, repeats an id or a quadrant, or has a core id that is not a source id.
    """
    path = Path(path)
    try:
        content = read_yaml(path)
    except OSError as error:
        raise InputError(
            explain(path, error.strerror or str(error), "a manifest", "Write the manifests again.")
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise InputError(
            explain(path, f"text that is no YAML ({problem})", "a manifest", "Write it again.")
        ) from error
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: not a valid manifest: {list_problems(error)}") from error
    return _resolved(manifest, path.parent)


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest as YAML, atomically; equal manifests give identical bytes.

    Where the name ends with `.gz`, the YAML is gzipped.
    """
    text = _as_yaml(manifest).encode("utf-8")
    packed = str(path).endswith(".gz")
    write_atomically(path, gzip.compress(text, GZIP_LEVEL, mtime=0) if packed else text)


def manifest_digest(path: str | Path) -> str:
    """The digest of a manifest's text, which does not depend on how it is packed."""
    return digest([read_bytes(Path(path))])


def _as_yaml(manifest: Manifest) -> str:
    content = manifest.model_dump(mode="json", exclude_none=True)
    content["sky_bounds"] = {key: _Wrapped(pair) for key, pair in content["sky_bounds"].items()}
    # the thousands of ids come last, and would take most of the time
    ids = "".join(_id_lines(key, content.pop(key)) for key in ("source_ids", "core_source_ids"))
    return yaml.dump(content, Dumper=_ManifestDumper, sort_keys=False, width=WIDTH) + ids


def _id_lines(key: str, ids: list[int]) -> str:
    """`key: [1, 2, ...]`, wrapped as PyYAML does: after the first item beyond the line width."""
    lines = [f"{key}: ["]
    for number, object_id in enumerate(ids):
        if number:
            lines[-1] += ","
            if len(lines[-1]) > WIDTH:
                lines.append("  ")
            else:
                lines[-1] += " "
        lines[-1] += str(object_id)
    return "\n".join(lines) + "]\n"


def _refuse_repeats(key: str, items: Iterable[Any]) -> None:
    seen: set[Any] = set()
    repeated = []
    for item in items:
        if item in seen:
            repeated.append(item)
        seen.add(item)
    if repeated:
        raise ValueError(f"{key} repeats {len(repeated)} entries, such as {repeated[:5]}")


def _as_tuple(one_or_more: str | list[str] | None) -> tuple[str, ...]:
    if isinstance(one_or_more, str):
        return (one_or_more,)
    return tuple(one_or_more or ())


def _resolved(manifest: Manifest, folder: Path) -> Manifest:
    def resolve(paths: Any) -> Any:
        if isinstance(paths, list):
            return [resolve(path) for path in paths]
        if paths is None or "://" in paths:
            return paths
        return str(folder / paths)  # an absolute path stays as it is

    quadrants = [
        files.model_copy(update={layer: resolve(getattr(files, layer)) for layer in LAYERS})
        for files in manifest.quadrants
    ]
    tables = ("source_catalog", "morphology_catalog", "segmentation_map")
    resolved = {name: resolve(getattr(manifest, name)) for name in tables}
    return manifest.model_copy(update={"quadrants": quadrants, **resolved})


class _Wrapped(list):
    """A list written as `[1, 2, ...]`, wrapped at the line width."""


# libyaml's, where PyYAML was built with it: the same text in a tenth of the time
class _ManifestDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the same path twice is written twice, not as a YAML anchor


_ManifestDumper.add_representer(
    _Wrapped,
    lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True),
)
