"""Sphinx settings of the site; `python -m tools site` writes the pages' sources and calls Sphinx."""

import json
import tomllib
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]["repository"]

project = "Deep Learning by Experiment"
copyright = "the authors of Deep Learning by Experiment, MIT License"
extensions = ["myst_nb"]
language = "en"
suppress_warnings = ["myst.header", "config.cache"]  # lessons may skip a level of headings

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # widgets appear as figures; no script of another host
nb_merge_streams = True
myst_all_links_external = True  # the sources carry links to pages
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_dmath_allow_labels = False

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [str(ROOT / "site" / "_static")]
html_css_files = ["course.css"]
html_js_files = [("digits.js", {"defer": "defer"}), ("live.js", {"defer": "defer"})]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse on the disk
html_show_sourcelink = False
html_theme_options = {
    "repository_url": f"https://github.com/{ADDRESS}",
    "use_repository_button": True,
    "use_download_button": False,
    "navbar_persistent": [],
    "show_toc_level": 2,
    "home_page_in_toc": True,
}


def math_as_mathml(self, node):
    """Write a formula as MathML, which browsers show without any script."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    self.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def set_alternative_texts(app, doctree, docname):
    """Give each figure the alternative text that it has in its notebook; Sphinx names figures by their SHA-256."""
    for image in doctree.findall(nodes.image):
        image["alt"] = app.alternative_texts.get(Path(image["uri"]).stem, image.get("alt", ""))


def setup(app):
    """Connect what this site adds to Sphinx."""
    app.add_html_math_renderer("mathml", (math_as_mathml, None), (math_as_mathml, None))
    app.alternative_texts = json.loads((Path(app.srcdir) / "alternative_texts.json").read_text(encoding="utf-8"))
    app.connect("doctree-resolved", set_alternative_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
