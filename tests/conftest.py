"""Settings of the whole test suite."""

import os
from pathlib import Path

# Compiled programs are shared between the workers and kept between runs: compilation is most of
# the time of the inference's tests. Set before JAX is imported, and inherited by subprocesses.
_CACHE = Path(__file__).parents[1] / "build" / "jax-cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
