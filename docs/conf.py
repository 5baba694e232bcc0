"""Sphinx: these pages and the docstrings as a site.

    pip install -e ".[docs]" && sphinx-build -W --keep-going docs site

It builds without a network, and every warning is an error.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

import gpuyard

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # gpuyard
ROOT = Path(__file__).parents[1]
SOURCES = "https://github.com/gpuyard/gpuyard/blob/main"

project = "GPUYard"
author = "The GPUYard developers"
copyright = author
version = release = gpuyard.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["images/*.md"]
nb_execution_mode = "force"  # tutorials/ are notebooks: a cell that fails is a warning, so an error
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # s a cell; the first compiles the engine
nb_output_stderr = "remove"  # progress
nb_merge_streams = True
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.xref_missing"]  # links to sources: see link_to_sources

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_mock_imports: list[str] = []

highlight_language = "none"  # a block without a kind is a formula or a message, not Python

html_theme = "furo"
html_title = f"GPUYard {version}"
html_static_path = ["static"]
html_css_files = ["frames.css"]


def link_to_sources(app: Sphinx, document: nodes.document) -> None:
    """Lead relative links that leave these pages to the repository."""
    for reference in document.findall(nodes.reference):
        target = reference.get("refuri", "")
        if re.match(r"(\.\./)+(?!.*://)", target):
            reference["refuri"] = f"{SOURCES}/{target.lstrip('./')}"


def name_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Call a page by its title where a link, made for a checkout, has its file's name as text."""
    source[0] = re.sub(r"\[(\w+\.md)\]\((\1(?:#[^)]*)?)\)", r"[](\2)", source[0])


def changelog(app: Sphinx) -> None:
    """Put the repository's changelog among the pages."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
    page = Path(app.srcdir) / "changelog.md"
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Connect all of these."""
    app.connect("builder-inited", changelog)
    app.connect("source-read", name_pages)
    app.connect("doctree-read", link_to_sources)
