"""Execute each notebook's percent script and write the result beside it, for reading on the web."""

from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

for script in sorted(Path(__file__).parent.glob("[0-9]*.py")):
    notebook = jupytext.read(script)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"].pop("execution", None)
    nbformat.write(notebook, script.with_suffix(".ipynb"))
