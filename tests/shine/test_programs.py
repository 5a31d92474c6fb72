"""Programs are kept on disk: other processes load them, and make those anew that are of no use."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import programs

TRACED = []


def cubed(power: int, numbers: dict) -> jax.Array:
    TRACED.append(power)
    return numbers["a"] ** power + numbers["b"].sum()


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """The folder of the programs that are kept."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    TRACED.clear()
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


def numbers(n: int = 3) -> dict:
    return {"a": np.arange(n, dtype=np.float32), "b": np.ones((2, n), np.float32)}


def answer(made: programs.Program, n: int = 3, power: int = 3) -> np.ndarray:
    return np.asarray(made(power, numbers(n)))


def expected(n: int = 3, power: int = 3) -> np.ndarray:
    return np.arange(n, dtype=np.float32) ** power + 2 * n


def test_a_program_is_traced_once_and_then_loaded(folder):
    for _ in range(2):
        for _ in range(2):  # a new object, as in a new process
            np.testing.assert_array_equal(answer(programs.Program(cubed, 1)), expected())
    assert TRACED == [3]
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == ["cubed"]


def test_shapes_types_static_arguments_and_precision_have_programs_of_their_own(folder):
    made = programs.Program(cubed, 1)
    np.testing.assert_array_equal(answer(made), expected())
    np.testing.assert_array_equal(answer(made, n=4), expected(4))
    np.testing.assert_array_equal(answer(made, power=2), expected(power=2))
    whole = {name: a.astype(np.int32) for name, a in numbers().items()}
    assert made(3, whole).dtype == jnp.int32
    with jax.enable_x64(True):
        double = {name: a.astype(float) for name, a in numbers().items()}
        assert made(3, double).dtype == np.float64
    with jax.enable_x64(False):  # asked for the same, it answers in single precision
        assert made(3, double).dtype == np.float32
    before = len(TRACED)
    with jax.default_matmul_precision("highest"):
        answer(made)
    assert len(TRACED) == before + 1
    assert len(TRACED) == len(list(folder.iterdir())) == len(made.compiled)


def test_threads_that_ask_for_a_program_at_once_wait_for_one_of_them(folder, monkeypatch):
    asked = []

    def slow(path: Path) -> None:
        asked.append(path)
        time.sleep(0.2)  # enough for the others to come

    monkeypatch.setattr(programs, "_read", slow)
    made = programs.Program(cubed, 1)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: answer(made), range(4)))
    assert len(asked) == 1
    np.testing.assert_array_equal(answers, [expected()] * 4)


@pytest.mark.parametrize("change", ["code_digest", "package_versions"])
def test_other_code_or_other_packages_make_other_programs(folder, monkeypatch, change):
    answer(programs.Program(cubed, 1))
    other = {"code_digest": "0" * 64, "package_versions": {"jax": "0.0"}}[change]
    monkeypatch.setattr(programs.provenance, change, lambda: other)
    np.testing.assert_array_equal(answer(programs.Program(cubed, 1)), expected())
    assert TRACED == [3, 3]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_anew(folder, damage):
    answer(programs.Program(cubed, 1))
    [path] = folder.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:middle], "changed": flipped, "empty": b""}[damage])
    for _ in range(2):
        np.testing.assert_array_equal(answer(programs.Program(cubed, 1)), expected())
    assert TRACED == [3, 3]


def test_without_a_folder_nothing_is_kept(folder):
    jax.config.update("jax_compilation_cache_dir", None)
    np.testing.assert_array_equal(answer(programs.Program(cubed, 1)), expected())
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_result(folder, caplog):
    folder.write_text("no folder")
    np.testing.assert_array_equal(answer(programs.Program(cubed, 1)), expected())
    assert f"{folder}/cubed-" in caplog.text
    assert "cannot keep a program" in caplog.text


class Two(NamedTuple):
    first: jax.Array
    second: jax.Array


jax.export.register_namedtuple_serialization(Two, serialized_name="tests.Two")


def test_a_named_tuple_comes_back_as_such(folder):
    for _ in range(2):
        found = programs.Program(lambda x: Two(x + 1, 2 * x))(np.float32(3.0))
        assert isinstance(found, Two)
        assert (float(found.first), float(found.second)) == (4.0, 6.0)


def test_it_can_be_transformed_like_any_function(folder):
    made = programs.Program(cubed, 1)
    slope = jax.grad(lambda a: made(3, numbers() | {"a": a}).sum())(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(slope, [3.0, 12.0, 27.0])


def test_processes_share_their_programs(tmp_path):
    """... of the fit itself."""
    code = """
import numpy as np
from shine import newton
from shine.scene import empty_batch, gather
from tests.shine.test_compilation import problem
scene = problem(1, (60, 60), seed=0).scene
chunk = gather(scene, scene.data_adu, empty_batch(scene, 0))
nothing = np.zeros((*chunk.present.shape, 6), np.float32)
traced, function = [], newton.compare._function
newton.compare._function = lambda *arguments: (traced.append(1), function(*arguments))[1]
newton.compare(scene.profile, chunk, nothing, nothing)
print(len(traced))
"""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["1", "0"]


def test_a_crowded_process_lets_go_of_its_programs_and_loads_them_again(
    folder, tmp_path, monkeypatch
):
    made = programs.Program(cubed, 1)
    answer(made)
    most = tmp_path / "most"
    monkeypatch.setattr(programs, "_MOST_MAPPINGS", most)
    for limit, left in ((10**6, 1), (10, 0)):
        most.write_text(f"{limit}\n")
        programs.make_room()
        assert [call._cache_size() for call in made.compiled.values()] == [left]
    np.testing.assert_array_equal(answer(made), expected())
    assert TRACED == [3]
