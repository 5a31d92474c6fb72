"""Which graphics card a process computes on, and that no other of our processes is on it."""

import errno
import os
import socket
from pathlib import Path

from shine.errors import ConfigurationError

_held: dict[str, socket.socket] = {}  # card -> what reserves it; the system frees it at our end


def claim_gpu(share: bool) -> str | None:
    """Take one visible graphics card, if there is any; call it before JAX looks for one.

    The first card that no other process of this user has taken, and for good:
    `CUDA_VISIBLE_DEVICES` is narrowed to it. With `share` nothing is taken, and JAX uses the first
    visible card. Returns the card's name in CUDA_VISIBLE_DEVICES. Raises `ConfigurationError` if
    others have all of them: JAX takes most of a card's memory at once, so that the second process
    on it would fail later.
    """
    if _held:
        return os.environ["CUDA_VISIBLE_DEVICES"]
    cards = _visible_cards()
    if not cards or share:
        return next(iter(cards.values()), None)
    for name, card in cards.items():
        if (reserved := _reserve(name)) is not None:
            _held[name] = reserved
            os.environ["CUDA_VISIBLE_DEVICES"] = card
            return card
    raise ConfigurationError(
        f"CUDA_VISIBLE_DEVICES: found graphics cards {', '.join(cards)}, all in use by other shine "
        "processes, expected a free one. Run fewer at a time (snakemake --resources gpu=N), or "
        "allow it (compute.share_gpu) with compute.gpu_memory_fraction below one half."
    )


def require_gpu() -> None:
    """Raise `ConfigurationError` if JAX computes on the processor."""
    import jax

    if jax.default_backend() == "cpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise ConfigurationError(
            f"a graphics card is required (compute.require_gpu): found only {jax.devices()[0]}, "
            f"CUDA_VISIBLE_DEVICES={'not set' if visible is None else repr(visible)}, expected a "
            "CUDA device. Install the extra `cuda`, ask the cluster for a card, or set "
            "compute.require_gpu: false."
        )


def _visible_cards() -> dict[str, str]:
    """Names of the cards on this machine, and what CUDA_VISIBLE_DEVICES calls them.

    Where that is not set it would count what there is: a container can be given card 2 alone, which
    is then number 0 in it.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        cards = [card.strip() for card in named.split(",")]
        return {card: card for card in cards if card not in ("", "-1")}
    there = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")]
    return {card: str(place) for place, card in enumerate(sorted(there, key=int))}


def _reserve(card: str) -> socket.socket | None:
    """Take the name of a card on this machine; None if another process has it.

    Within a SLURM job cards can be numbered from 0, whichever they are: the job is in the name.
    """
    name = f"\0shine-gpu-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', '')}-{card}"
    reserved = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reserved.bind(name)  # abstract: no file, and gone with the process
    except OSError as error:
        reserved.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return reserved
