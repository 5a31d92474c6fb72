"""Configuration of the inference: which method, and the settings of each."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from shine.config import Strict


class MarginalConfig(Strict):
    """Settings of `method: marginal`."""

    samples: Annotated[int, Field(ge=16, le=4096)] = Field(
        64, description="samples per galaxy; four times as many where they are too uneven"
    )
    least_effective: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25,
        description="effective share of the samples, under gal.priors, below which a blend is "
        "sampled again",
    )
    infer_dispersion: bool = Field(
        True,
        description="infer the dispersion of intrinsic ellipticities along with the shear; "
        "gal.priors.ellipticity.sigma is then a first guess",
    )
    infer_population: bool = Field(
        True,
        description="infer the distribution of fluxes and sizes along with the shear, if "
        "gal.priors has both as LogNormal with center: catalog; their sigmas then say how wide "
        "it is believed to be",
    )


class SolverConfig(Strict):
    """Settings of the search for the mode."""

    max_iterations: Annotated[int, Field(ge=2)] = Field(
        40, description="give up (and flag) after so many steps; the last one is for the errors"
    )
    shear_tolerance: PositiveFloat = Field(
        0.01, description="converged when a step moves the shear by less than this times its error"
    )
    source_tolerance: PositiveFloat = Field(
        0.1, description="... and 98 % of the sources by less than this, in theirs"
    )


class ViConfig(Strict):
    """Stochastic variational inference with independent Gaussians around the mode."""

    steps: Annotated[int, Field(ge=200)] = Field(
        4000,
        description="give up (and flag) after so many steps; every 200 it may find itself "
        "converged",
    )
    learning_rate: PositiveFloat = Field(
        0.01, description="of Adam, in errors of the parameters per step"
    )
    tolerance: PositiveFloat = Field(
        0.05, description="converged when the shear is within this times its error of the optimum"
    )


class NutsConfig(Strict):
    """Hamiltonian Monte Carlo without U-turns, whitened by the curvature at the mode."""

    warmup: PositiveInt = Field(300, description="steps of each chain that adapt it, not kept")
    draws: Annotated[int, Field(ge=4)] = Field(500, description="samples kept of each chain")
    chains: PositiveInt = Field(4, description="independent chains, run side by side")
    target_accept: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="acceptance rate that the step size is adapted to"
    )
    largest_r_hat: Annotated[float, Field(gt=1)] = Field(
        1.05, description="converged when the shear's split R-hat is below this"
    )


class AdamConfig(Strict):
    """The classic optimiser: a fixed number of steps of a fixed rate from the catalogue."""

    steps: PositiveInt = Field(200, description="number of steps")
    learning_rate: PositiveFloat = Field(0.002, description="in the coordinates, per step")


class InferenceSettings(Strict):
    """How the shear is inferred from the pixels."""

    method: Literal["marginal", "map", "vi", "nuts"] = Field(
        "marginal",
        description="marginal: posterior of the shear from samples of every galaxy; map: the "
        "joint mode of all galaxies and the shear, with Laplace errors; vi: independent Gaussians; "
        "nuts: samples of everything together, for small scenes",
    )
    optimizer: Literal["newton", "adam"] = Field(
        "newton", description="of method map; adam is the classic route, slow and rarely converged"
    )
    seed: NonNegativeInt = Field(0, description="seed of everything random in the inference")
    marginal: MarginalConfig = MarginalConfig()
    solver: SolverConfig = SolverConfig()
    adam: AdamConfig = AdamConfig()
    vi: ViConfig = ViConfig()
    nuts: NutsConfig = NutsConfig()
