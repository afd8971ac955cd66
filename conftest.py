"""The code of the README and of notebooks/bring_your_own.md runs."""

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "bring_your_own.md"]).pytest()
