"""A validation campaign: which cases are measured, and on how many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from constellation.mock_survey.config import Settings
from constellation.validation.drawing.settings import FieldSettings, SceneSettings
from shine.errors import ConfigurationError, explain, list_problems
from shine.yaml_files import read_yaml

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Method = Literal["marginal", "map", "vi", "nuts"]
Peer = Literal["anacal", "lensmc"]

_SMALL_CELLS = 32  # 1,024 galaxies
_PER_PROCESS = 6
_OF_A_BLOCK = {"scene", "field", "methods", "coverage", "known", "halves"}


class Limits(Settings):
    """What a case must keep to, three errors granted; null: nothing is asked."""

    m: PositiveFloat | None = Field(None, description="largest |m1| and |m2|")
    c: PositiveFloat | None = Field(None, description="largest |c1| and |c2|")
    position_arcsec: PositiveFloat | None = Field(
        None, description="largest mean distance of the fitted from the true positions, per axis"
    )


class Case(Settings):
    """One kind of image, and how shine is asked about it."""

    name: Name
    level: Annotated[int, Field(ge=0, le=4)]
    shows: str = Field(description="what the case shows, for the report")
    blocks: PositiveInt = Field(
        description="independent sets of galaxies, each seen under opposite shears"
    )
    scene: SceneSettings = SceneSettings()
    field: FieldSettings | None = Field(None, description="full scenes, instead of `scene`")
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("marginal",)
    shine: dict[str, Any] = Field(
        {}, description="settings of shine that differ from the campaign's, section by section"
    )
    known: bool = Field(False, description="shine's priors are those that the galaxies follow")
    halves: bool = Field(
        False,
        description="shine's shear from either half of its samples, too, on average: what a number "
        "of samples costs that is finite (isolated galaxies)",
    )
    coverage: PositiveInt | None = Field(
        None,
        description="so many images in a block, each of a shear of its own between -shear and "
        "shear, whose galaxies follow the very priors that shine is told; for the coverage of its "
        "intervals",
    )
    limits: dict[str, Limits] = Field({}, description="by method, as the report names them")
    compared_with: Name | None = Field(
        None, description="a case of the same galaxies and noise, from which this one differs"
    )
    peers: tuple[Peer, ...] = Field((), description="other codes that get the same images")
    peer_blocks: PositiveInt = Field(1, description="of how many of the blocks, the first ones")

    def of_a_block(self) -> dict[str, Any]:
        """What a block's result depends on, but for its number, the seed and shine's settings."""
        return self.model_dump(mode="json", include=_OF_A_BLOCK)

    def parts(self) -> list[tuple[int, ...]]:
        """The blocks in the groups that one process measures, one block after the other.

        For small images, starting Python and preparing programs would take as long as the rest;
        `vi` and `nuts` trace programs that no cache holds.
        """
        small = self.field is None and self.scene.cells <= _SMALL_CELLS
        size = _PER_PROCESS if small or {"vi", "nuts"} & {*self.methods} else 1
        return [
            tuple(range(first, min(first + size, self.blocks)))
            for first in range(0, self.blocks, size)
        ]

    def layout(self) -> dict[str, Any]:
        """What cases must have in common, or their galaxies and noise are not the same."""
        if self.field is not None:
            return {"field.width_arcmin": self.field.width_arcmin}
        scene, galaxies = self.scene, self.scene.galaxies
        same = {name: getattr(scene, name) for name in ("cells", "noise", "independent")}
        return same | {"population": galaxies.population, "real": galaxies.profile == "real"}


class Campaign(Settings):
    """The cases; equal campaigns give equal images."""

    seed: NonNegativeInt = 1
    shine: dict[str, Any] = Field({}, description="shine's settings in all cases")
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Campaign:
        names = [case.name for case in self.cases]
        if len(set(names)) != len(names):
            raise ValueError(f"cases: names repeated in {names}")
        for case in self.cases:
            galaxies = case.scene.galaxies
            alike = galaxies.population == "uniform" and galaxies.profile != "real"
            if case.known and not alike:
                raise ValueError(f"cases.{case.name}.known: needs galaxies of one kind")
            if case.coverage and not (alike and case.scene.independent and case.scene.noise):
                raise ValueError(f"cases.{case.name}.coverage: needs independent uniform galaxies")
            isolated = case.field is None and case.coverage is None
            if case.halves and not isolated:
                raise ValueError(f"cases.{case.name}.halves: needs isolated galaxies")
            if case.peers and not (isolated and galaxies.profile != "real"):
                raise ValueError(f"cases.{case.name}.peers: needs isolated galaxies with a formula")
            if case.peer_blocks > case.blocks:
                raise ValueError(
                    f"cases.{case.name}.peer_blocks: the case has {case.blocks} blocks"
                )
            self._check_limits(case)
            if case.compared_with is None:
                continue
            if case.compared_with not in names:
                raise ValueError(f"cases.{case.name}.compared_with: no case {case.compared_with}")
            other = self.case(case.compared_with)
            if case.layout() != other.layout():
                raise ValueError(
                    f"cases.{case.name}.compared_with: {other.name} has {other.layout()}, expected "
                    f"{case.layout()}: else neither galaxies nor noise are the same"
                )
        return self

    @staticmethod
    def _check_limits(case: Case) -> None:
        known = {*case.methods} | ({"marginal_inferred"} & {f"{m}_inferred" for m in case.methods})
        for method, limits in case.limits.items():
            if method not in known:
                raise ValueError(
                    f"cases.{case.name}.limits.{method}: expected one of {sorted(known)}"
                )
            if case.field is not None and limits.position_arcsec is not None:
                raise ValueError(
                    f"cases.{case.name}.limits.{method}.position_arcsec: not known of full scenes"
                )

    def case(self, name: str) -> Case:
        """The case of a name; raises `ConfigurationError` if there is none."""
        for case in self.cases:
            if case.name == name:
                return case
        known = ", ".join(case.name for case in self.cases)
        raise ConfigurationError(explain("case", name, f"one of {known}", "Correct the name."))

    def settings(self, case: Case) -> dict[str, Any]:
        """shine's configuration for a case."""
        return _merged(self.shine, case.shine)


def load_campaign(path: Path) -> Campaign:
    """Read a campaign; raises `ConfigurationError` naming the file and the key."""
    try:
        return Campaign.model_validate(read_yaml(path))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the campaign: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {list_problems(error)}. Correct the file.") from error


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `more` put in."""
    result = dict(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if both else value
    return result
