"""The guidebook as one HTML file that opens without a network: formulas, quizzes, flash cards and pictures inside."""

import html
import re
from itertools import zip_longest
from pathlib import Path

import nbformat
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from run_notebooks import STATIC, WIDGET, OfflineRenderer

STYLE = Path(__file__).with_name("guidebook.css")
TITLE = "The guidebook of Deep Learning by Experiment"
SHARED = "# shared cell: "
ID = re.compile(r'\bid="([^"]+)"')
FOLDED_FROM = 16  # lines: code cells as long as this are folded
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SCRIPT = """
if (window.innerWidth < 1120) document.querySelector("nav > details").open = false;
const closed = () => document.querySelectorAll("main details:not([open])");
let opened = [];
addEventListener("beforeprint", () => { opened = [...closed()]; opened.forEach(d => { d.open = true; }); });
addEventListener("afterprint", () => { opened.forEach(d => { d.open = false; }); opened = []; });
addEventListener("hashchange", () => { if (innerWidth < 1120) document.querySelector("nav > details").open = false; });
"""


def repository(nb):
    """Return the address of the repository's pages, taken from the Colab badge in the first cell of `nb`."""
    name = re.search(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/", nb.cells[0].source)
    if name is None:
        raise ValueError("nb: its first cell must have a Colab badge, which names the repository")
    return f"https://github.com/{name[1]}/blob/main/"


class Chapter:
    """One notebook or Markdown page of the document: its HTML in `parts`, its headings in `contents`.

    `name` is the file's stem and the prefix of all its anchors; `chapters` are the names of all chapters, so that
    links between them stay in the document; `base` is the address of the repository's pages for all other links.
    """

    def __init__(self, name, chapters, base):
        self.name, self.chapters, self.base = name, chapters, base
        self.parts, self.contents, self.used = [], [], set()

    def heading_id(self, text):
        """Return an anchor for a heading with the plain `text` that nothing else in the chapter has."""
        number = 1
        stem = anchor = f"{self.name}-{slug(text) or 'section'}"
        while anchor in self.used:
            number += 1
            anchor = f"{stem}-{number}"
        self.used.add(anchor)
        return anchor

    def target(self, link):
        """Return where the `link` of a Markdown cell leads within the document, or else on the repository's pages."""
        if re.match(r"[a-z]+:", link):
            return link
        path, _, anchor = link.partition("#")
        stem = path.rpartition("/")[2].rpartition(".")[0]
        if not path:
            return f"#{self.name}-{slug(anchor)}"
        if stem in self.chapters and "../" not in path:
            return f"#{stem}-{slug(anchor)}" if anchor else f"#{stem}"
        place = ["notebooks", "guidebook"]
        for step in path.split("/"):
            place = place[:-1] if step == ".." else place + [step]
        return self.base + "/".join(place) + (f"#{anchor}" if anchor else "")

    def with_links(self, page):
        """Return the HTML `page` with the targets of its links as they must be in the document."""
        return re.sub(r'(<a\b[^>]*?)href="([^"]+)"', lambda m: f'{m[1]}href="{self.target(m[2])}"', page)

    def markdown(self, source):
        """Return Markdown as HTML with the chapter's own anchors, links that work in the document, and its headings."""
        page = MarkdownWithMath(renderer=OfflineRenderer(escape=False, exclude_anchor_links=True)).render(source)
        page = self.with_links(ID.sub(lambda m: f'id="{self.name}-{slug(m[1])}"', page))

        def heading(match):
            level, inside = int(match[1]), match[2]
            anchor = self.heading_id(html.unescape(re.sub(r"<[^>]+>", "", inside)))
            if level <= 2:
                self.contents.append((level, anchor, inside))
            sign = f'<a class="anchor-link" href="#{anchor}" aria-label="link to this section">¶</a>'
            return f'<h{level} id="{anchor}">{inside}{sign}</h{level}>'

        return re.sub(r"<h([1-6])[^>]*>(.*?)</h\1>", heading, page, flags=re.DOTALL)

    def add_notebook(self, nb):
        """Append the executed notebook `nb` without what only a running notebook needs: parameters, shared cells."""
        texts = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
        self.used |= {f"{self.name}-{slug(anchor)}" for anchor in ID.findall(texts)}
        for cell, following in zip_longest(nb.cells, nb.cells[1:]):
            if cell.cell_type == "code":
                if is_worth_reading(cell):
                    self.parts.append(code_as_html(cell.source))
                for page in map(output_as_html, cell.outputs):
                    self.parts.append(page if page.startswith("<script>") else self.with_links(page))
            elif "#" in cell.source or not (following and following.source.startswith(SHARED)):
                self.parts.append(self.markdown(cell.source))  # a sentence that only announces shared cells is left out


def slug(text):
    """Return `text` as part of an anchor; the spellings of one heading in Jupyter and on GitHub become one."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def is_worth_reading(cell):
    """Return whether the code of a cell belongs in the document: it is not hidden, generated or mere bookkeeping."""
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden") or "parameters" in cell.metadata.get("tags", [])
    return not hidden and not cell.source.startswith((SHARED, "GLOSSARY = {", "claims.table()", "claims.verify()"))


def code_as_html(source):
    """Return Python code with colors; folded if it is long."""
    colored = highlight(source, PythonLexer(), HtmlFormatter())
    lines = source.count("\n") + 1
    return colored if lines < FOLDED_FROM else f"<details><summary>Code ({lines} lines)</summary>{colored}</details>"


def output_as_html(output):
    """Return one output of a cell as HTML; a script keeps its names to itself, a widget becomes a sentence."""
    if output.output_type == "stream":
        return f'<div class="output"><pre>{html.escape(output.text)}</pre></div>'
    data = output.get("data", {})
    if WIDGET in data:
        return f'<div class="output note">{STATIC}</div>'
    if "image/png" in data:
        alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
        return f'<div class="output"><img alt="{alt}" src="data:image/png;base64,{data["image/png"].strip()}"></div>'
    if "application/javascript" in data:
        script = data["application/javascript"].replace("</", "<\\/")
        return f"<script>(function () {{\n{without_hosts(script)}\n}})();</script>"
    if "text/html" in data:
        kind = "output cards" if "flip-container" in data["text/html"] else "output"
        return f'<div class="{kind}">{data["text/html"]}</div>'
    return f'<div class="output"><pre>{html.escape(data.get("text/plain", ""))}</pre></div>'


def without_hosts(script):
    """Return JavaScript that cannot ask another host for MathJax: formulas are MathML here."""
    return re.sub(r"https?://cdn\.[^'\"]+", "", script)


def table_of_contents(chapters):
    """Return the list of `chapters` with their sections, each chapter foldable."""
    lines = []
    for chapter in chapters:
        title = next(inside for level, _, inside in chapter.contents if level == 1)
        sections = [f'<li><a href="#{a}">{inside}</a></li>' for level, a, inside in chapter.contents if level == 2]
        link = f'<a href="#{chapter.name}">{title}</a>'
        inner = f"<details><summary>{link}</summary><ul>{''.join(sections)}</ul></details>" if sections else link
        lines.append(f"<li>{inner}</li>")
    return "<ul>" + "\n".join(lines) + "</ul>"


def make_page(folder, names):
    """Return the HTML document of the chapters `names` (file stems) that exist in `folder`, in this order.

    A chapter is an executed notebook or a Markdown page. Raises FileNotFoundError when there is no notebook.
    """
    files = [folder / f"{name}{kind}" for name in names for kind in (".ipynb", ".md")]
    files = [path for path in files if path.exists()]
    notebooks = {path: nbformat.read(path, as_version=4) for path in files if path.suffix == ".ipynb"}
    if not notebooks:
        raise FileNotFoundError(f"no notebook of the guidebook in {folder.name}/")
    base = repository(next(iter(notebooks.values())))
    chapters = []
    for path in files:
        chapter = Chapter(path.stem, {file.stem for file in files}, base)
        if path.suffix == ".ipynb":
            chapter.add_notebook(notebooks[path])
        else:
            chapter.parts.append(chapter.markdown(path.read_text(encoding="utf-8")))
        chapters.append(chapter)
    articles = [f'<article id="{c.name}">\n' + "\n".join(c.parts) + "\n</article>" for c in chapters]
    style = STYLE.read_text(encoding="utf-8") + HtmlFormatter().get_style_defs(".highlight")
    return DOCUMENT.format(
        title=TITLE, policy=POLICY, style=style,
        contents=table_of_contents(chapters), articles="\n".join(articles), script=SCRIPT,
    )  # fmt: skip


DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<nav aria-label="Contents"><details open><summary>Contents</summary>
{contents}
</details></nav>
<main>
<header>
<h1>{title}</h1>
<p>Nine lectures, with quizzes that mark themselves, in one file. It needs no network and no Python. The figures come
from the notebooks, which you can run and change; their sliders move there. Answers are folded: think first, then
open. In print, everything unfolds.</p>
</header>
{articles}
</main>
<script>{script}</script>
</body>
</html>
"""
