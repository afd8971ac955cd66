"""Rules of the house that a machine can check."""

import ast
import configparser
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = {"aevb": "src/aevb", "aevb.models": "models", "aevb.guides": "guides", "aevb.inference": "inference"}


def test_every_package_is_listed_so_that_the_wheel_has_it() -> None:
    listed = configparser.ConfigParser()
    listed.read(ROOT / "setup.cfg")
    found = set()
    for package, folder in LIBRARY.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            path = init.parent.relative_to(ROOT / folder)
            if path.parts[:1] not in {("models",), ("guides",), ("inference",)} or package != "aevb":
                found.add(".".join([package, *path.parts]))
    assert found == set(listed["options"]["packages"].split())


def imported(file: Path) -> set[str]:
    """The packages of ours that a file imports: models, guides, inference, or application."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = len(file.relative_to(ROOT).parts) - 1
            if node.level > depth:  # above the folder: what is named stands beside it
                names.add((node.module or "aevb").partition(".")[0])
    return names


@pytest.mark.parametrize(("folder", "allowed"), [("models", set()), ("guides", {"models"}), ("inference", {"models"})])
def test_imports_go_one_way(folder: str, allowed: set[str]) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        assert imported(file) <= allowed, file


def test_inference_knows_no_vae() -> None:
    for file in (ROOT / "inference").rglob("*.py"):
        code = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in code if node.module and node.module.startswith("models")}
        assert modules <= {"models.errors"}, file


def test_the_version_is_one() -> None:
    import aevb

    assert importlib.metadata.version("aevb") == aevb.__version__
    assert f"version: {aevb.__version__}" in (ROOT / "CITATION.cff").read_text()
