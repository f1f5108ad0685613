"""An executed notebook as one HTML page that opens without a network: formulas as MathML, folded cells folded."""

import html
import re

import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from tools.stills import VIEW, add_stills


class OfflineRenderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers show without any script."""

    def inline_math(self, body):
        """Return the formula `body` (TeX) as MathML within a line."""
        return mathml(body)

    def block_math(self, body):
        """Return the formula `body` (TeX) as MathML on a line of its own."""
        return mathml(body, display="block")

    def multiline_math(self, text):
        """Return a formula that extends over several lines, its dollar signs included, as MathML."""
        return mathml(text.strip().strip("$"), display="block")

    def image(self, text, url, title=None):
        """Return a picture; one that lies on another host, such as a badge, becomes its alternative text."""
        return text if url.startswith("http") else super().image(text, url, title)


MATH_FONTS = (  # the first that a machine has; without such a font, roots and braces stay small
    '<style>math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", "DejaVu Math TeX Gyre", math; } '
    "details.folded > summary { color: #666; cursor: pointer; font: 13px sans-serif; margin: 0.4em 0 0.4em 66px; }"
    "</style>"
)
TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{% block input_group %}{% if 'hide-input' in cell.metadata.get('tags', []) %}
<details class="folded"><summary>{{ cell.source | title | e }}</summary>{{ super() }}</details>
{% else %}{{ super() }}{% endif %}{% endblock input_group %}"""
STATIC = "<p><em>This part moves in a running notebook. On this page it stands still.</em></p>"


def title_of(source):
    """Return the title of a folded cell: what follows `# @title` in its first line."""
    return source.splitlines()[0].removeprefix("# @title ")


def without_widgets(outputs):
    """Return a cell's `outputs` with each widget, which needs a kernel, as its still picture and a sentence."""
    result = []
    for output in outputs:
        data = output.get("data", {})
        if VIEW in data:
            still = {kind: data[kind] for kind in ("image/png", "text/html") if kind in data}
            if still:
                result.append(nbformat.v4.new_output("display_data", data=still, metadata=output.metadata))
            output = nbformat.v4.new_output("display_data", data={"text/html": STATIC})
        result.append(output)
    return result


def as_html(nb, title):
    """Return the executed notebook `nb` as one HTML page that needs no network; `title` is the page's title."""
    nb = nbformat.from_dict(nb)
    add_stills(nb)
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r'"[\w+/=]{300,}"', '"..."', cell.source)  # packed questions
            cell.outputs = without_widgets(cell.outputs)
    to_html = MarkdownWithMath(renderer=OfflineRenderer(escape=False)).render
    filters = {"markdown2html": lambda source: to_html(source), "title": title_of}
    exporter = HTMLExporter(
        filters=filters, extra_loaders=[DictLoader({"folded.html.j2": TEMPLATE})], template_file="folded.html.j2"
    )
    exporter.log.setLevel("ERROR")  # its template drops alternative texts and warns of that; they are put back below
    page, _ = exporter.from_notebook_node(nb, {"metadata": {"name": title}})
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            alt = html.escape(output.metadata.get("image/png", {}).get("alt", "a figure"))
            page = page.replace('alt="No description has been provided for this image"', f'alt="{alt}"', 1)
    page = page.replace("</head>", MATH_FONTS + "</head>", 1)
    return re.sub(r'<script[^>]*src="https?://[^"]*"[^>]*>\s*</script>', "", page)
