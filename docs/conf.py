"""Sphinx: the source folder is the repository's root, so that links work here as on a code host.

    make docs

Notebooks are executed once and kept in a cache under docs/_build, which the tests fill.
"""

import os
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import bbnn_uq

HERE = Path(__file__).parent

# Of what the commands print about themselves.
os.environ |= {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

project = "bbnn-uq"
author = "The bbnn-uq maintainers"
copyright = f"2026, {author}"
version = release = bbnn_uq.__version__

root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".venv", "docs/_build", "runs", "**/.ipynb_checkpoints"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

nitpicky = True
# Docstrings state shapes, units and ranges, which the annotations repeat at length.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
default_role = "code"
nitpick_ignore_regex = [
    # Of annotations of array attributes: the package, what it wraps, and names of axes.
    ("py:class", r"jaxtyping\..*|ndarray|Tensor|'[^']*'|_"),
]

# Copies of what is needed, so that the pages build without a network: docs/inventories/make.py.
intersphinx_mapping = {
    project: (address, str(HERE / "inventories" / f"{project}.inv"))
    for project, address in {
        "python": "https://docs.python.org/3/",
        "sklearn": "https://scikit-learn.org/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}

html_theme = "furo"
html_title = f"bbnn-uq {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {"navigation_with_keys": True}


def escape_bars(app, what, name, obj, options, lines):
    """Magnitudes stand as |λ| in docstrings; reStructuredText takes that for a substitution."""
    lines[:] = [re.sub(r"\|(λ|∇_μ|ε|x)\|", r"\\|\1\\|", line) for line in lines]


class NamesAsLinks(SphinxPostTransform):
    """Names such as ``bbnn_uq.metrics.ece`` become links, in pages that code hosts show as well."""

    default_priority = 20  # what is a reference has been resolved by then

    def run(self, **kwargs):
        """Called by Sphinx for each page."""
        known = self.env.domains["py"].objects
        for literal in list(self.document.findall(nodes.literal)):
            entry = known.get(literal.astext())
            if entry is not None and not isinstance(literal.parent, nodes.reference):
                target = (self.env.docname, entry.docname, entry.node_id)
                literal.replace_self(make_refnode(self.app.builder, *target, literal.deepcopy()))


def setup(app):
    """Called by Sphinx."""
    app.add_post_transform(NamesAsLinks)
    app.connect("autodoc-process-docstring", escape_bars)
