"""The documentation site: `make docs` writes it to build/site. Warnings are errors."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "build/python"))  # the package with its extension
import penstock  # noqa: E402, F401  # the extension itself, or autodoc would read its stub

project = "Penstock"
html_title = "Penstock"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["OPEN.md"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

napoleon_use_ivar = True  # attributes are members of their own as well
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints = "signature"
