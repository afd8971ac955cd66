"""The notebooks run, and what is kept of them is what they are."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own client
def test_notebooks_run_and_the_kept_copy_is_of_this_script(script: Path) -> None:
    notebook = jupytext.read(script)
    kept = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert sources(kept) == sources(notebook), "run `make notebooks`"
    assert all(cell.get("outputs") is not None for cell in kept.cells if cell.cell_type == "code")
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    assert notebook.cells[-1].source.startswith("assert"), "each ends in an assertion"
