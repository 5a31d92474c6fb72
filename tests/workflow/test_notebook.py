"""docs/notebook.ipynb, run from its first cell to its last on a finished survey."""

from __future__ import annotations

import base64
import io
import sys
from dataclasses import replace

import matplotlib.image
import nbformat
import numpy as np
import pytest

from .project import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# The kernel is this very environment's, and reached through files, not ports. All of it is another
# process, for nbclient leaves sockets open.
RUN = """
import sys

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

source, output, folder, sockets = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=sockets)
resources = {"metadata": {"path": folder}}
NotebookClient(notebook, km=kernel, timeout=300, resources=resources).execute()
nbformat.write(notebook, output)
"""
FIGURES = ("whiskers", "tiles", "cone", "map", "pixels", "density")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_clean(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.id


def test_every_cell_runs_and_every_figure_shows_something(pinned, tmp_path):
    repository = pinned.copy(tmp_path / "repository")
    kinds = ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own = {kind: str(tmp_path / kind) for kind in kinds}  # in place of the user's
    repository = replace(repository, variables=own)
    places = (tmp_path / "run.ipynb", repository.folder / "results", tmp_path / "kernel")
    repository.call(sys.executable, "-c", RUN, str(NOTEBOOK), *map(str, places))
    notebook = nbformat.read(places[0], as_version=4)

    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    for name, cell in cells.items():
        outputs = [output for output in cell.outputs if output.output_type != "display_data"]
        assert all(output.output_type == "execute_result" for output in outputs), (name, outputs)
        pictures = [
            base64.b64decode(output.data["image/png"])
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        assert len(pictures) == (name in FIGURES), name
        for picture in pictures:
            pixels = matplotlib.image.imread(io.BytesIO(picture))[..., :3]
            marked = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(axis=-1) > 0.2
            assert marked.mean() > 0.01, f"{name} is next to empty"
    told = cells["subtile"].outputs[0].data["text/plain"]
    rows = [
        line.split("┆") for line in told.splitlines() if "from pixels" in line or "catal" in line
    ]
    values = np.array([[float(text.strip(" │")) for text in row[1:]] for row in rows])
    np.testing.assert_allclose(values[0], values[1], atol=2e-6)
    assert (values[0] != 0.0).all()
