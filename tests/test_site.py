"""The notebooks, each executed once, and the pages, built around what they showed."""

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "docs" / "_build"
NAMES = (
    "01_calibrated_predictions",
    "02_out_of_distribution",
    "03_why_the_published_recipe_collapses",
    "04_the_paper",
    "05_continual_learning",
    "06_how_many_networks",
)
SECONDS = 180
executed: set[str] = set()  # by the tests of this run


def notebook(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_all_notebooks_are_known():
    assert tuple(sorted(path.stem for path in ROOT.glob("notebooks/*"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs(name):
    cells = [cell for cell in notebook(name).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert any("assert " in cell.source for cell in cells)
    assert any('plt.style.use("bbnn_uq.plots.figure")' in cell.source for cell in cells)


@pytest.mark.filterwarnings("default")  # of the libraries that start and talk to the kernel
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, monkeypatch):
    """From top to bottom in time and without a warning; the pages below show what it printed."""
    # Small tensors on threads that wait for a core beside other tests take several times as long.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = notebook(name)
    start = time.monotonic()
    # Times in the cells would keep the pages from knowing the notebook in the cache.
    client = NotebookClient(content, timeout=SECONDS, kernel_name="python3", record_timing=False)
    client.execute(cwd=ROOT / "notebooks")
    assert time.monotonic() - start < SECONDS
    outputs = [output for cell in content.cells for output in cell.get("outputs", ())]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", ()) for output in outputs)
    cache = get_cache(BUILD / "notebooks")
    cache.cache_notebook_bundle(CacheBundleIn(content, uri=name), overwrite=True)
    executed.add(name)


def test_the_pages_build_without_a_warning():
    cache = get_cache(BUILD / "notebooks")
    before = {record.pk for record in cache.list_cache_records()}
    options = ("--fresh-env", "--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", "docs")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(BUILD / "html")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    added = [record for record in cache.list_cache_records() if record.pk not in before]
    assert not executed & {Path(record.uri).stem for record in added}  # none a second time
    for name in NAMES:
        page = (BUILD / "html" / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "_images/" in page  # the figures are in it
