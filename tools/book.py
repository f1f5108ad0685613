"""Bind the guidebook into one HTML file, which opens without a network, and print it as PDF.

Formulas, quizzes, flash cards and pictures are inside. It is made from the stored
outputs of the notebooks, without running them: logs/html/guidebook.html and, if there
is a Chromium or Chrome on this machine, logs/html/guidebook.pdf.
"""

import argparse
import html
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tools.course import ROOT, repository, write_atomically
from tools.page import OfflineRenderer, title_of, without_widgets
from tools.questions import FOLDER, LECTURES

STYLE = Path(__file__).with_suffix(".css")
CHAPTERS = [*LECTURES.values(), "resources", "glossary", "review"]  # stems of files
TITLE = "The guidebook of Deep Learning by Experiment"
ID = re.compile(r'\bid="([^"]+)"')
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")  # the first that is there prints
FOLDED_FROM = 16  # lines: code cells as long as this are folded
POLICY = "; ".join(["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'"])
SCRIPT = """
const contents = document.querySelector("nav > details");
const fold = () => { if (innerWidth < 1120) contents.open = false; };
fold();
addEventListener("hashchange", fold);
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("main details:not([open])")];
  opened.forEach(details => { details.open = true; });
});
addEventListener("afterprint", () => {
  opened.forEach(details => { details.open = false; });
  opened = [];
});
"""


class Chapter:
    """A notebook or Markdown page of the document: HTML in `parts`, and its `contents`.

    `name` is the file's stem and the prefix of all its anchors; `chapters` are the
    names of all chapters, so that links between them stay in the document; `base` is
    the address of the repository's pages for all other links. `contents` lists its
    headings of the levels 1 and 2 as (level, anchor, HTML).
    """

    def __init__(self, name, chapters, base):
        self.name, self.chapters, self.base = name, chapters, base
        self.parts, self.contents, self.used = [], [], set()

    def heading_id(self, text):
        """Return an anchor for a heading with the plain `text`, new in the chapter."""
        number = 1
        stem = anchor = f"{self.name}-{slug(text) or 'section'}"
        while anchor in self.used:
            number += 1
            anchor = f"{stem}-{number}"
        self.used.add(anchor)
        return anchor

    def target(self, link):
        """Return where the `link` of a Markdown cell leads.

        That is a place in the document, or else on the repository's pages.
        """
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
        """Return the HTML `page` with links that lead where they must here."""

        def link(match):
            return f'{match[1]}href="{self.target(match[2])}"'

        return re.sub(r'(<a\b[^>]*?)href="([^"]+)"', link, page)

    def markdown(self, source):
        """Return Markdown as HTML: anchors and links of the document, own headings."""
        renderer = OfflineRenderer(escape=False, exclude_anchor_links=True)
        page = MarkdownWithMath(renderer=renderer).render(source)
        page = ID.sub(lambda m: f'id="{self.name}-{slug(m[1])}"', page)

        def heading(match):
            level, inside = int(match[1]), match[2]
            anchor = self.heading_id(html.unescape(re.sub(r"<[^>]+>", "", inside)))
            if level <= 2:
                self.contents.append((level, anchor, inside))
            label = 'class="anchor-link" aria-label="link to this section"'
            sign = f'<a {label} href="#{anchor}">¶</a>'
            return f'<h{level} id="{anchor}">{inside}{sign}</h{level}>'

        pattern = r"<h([1-6])[^>]*>(.*?)</h\1>"
        return re.sub(pattern, heading, self.with_links(page), flags=re.DOTALL)

    def add_notebook(self, nb):
        """Append the executed notebook `nb`, without what only running it needs."""
        prose = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
        anchors = ID.findall("\n".join(prose))
        self.used |= {f"{self.name}-{slug(anchor)}" for anchor in anchors}
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                self.parts.append(self.markdown(cell.source))
                continue
            if is_worth_reading(cell):
                self.parts.append(code_as_html(cell))
            for page in map(output_as_html, without_widgets(cell.outputs)):
                script = page.startswith("<script>")
                self.parts.append(page if script else self.with_links(page))


def slug(text):
    """Return `text` as part of an anchor, the same for Jupyter's and GitHub's form."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def is_worth_reading(cell):
    """Return whether the code of `cell` has a meaning without a running notebook."""
    parameters = "parameters" in cell.metadata.get("tags", [])
    return not parameters and cell.source != "check_claims()"


def code_as_html(cell):
    """Return the code of `cell` with colors.

    It is folded if it is long, or under its title if the notebook hides it, too (tag
    hide-input).
    """
    source = re.sub(r'"[\w+/=]{300,}"', '"..."', cell.source)  # packed questions
    num_lines = source.count("\n") + 1
    kind, title = "code", f"Code ({num_lines} lines)"
    hidden = "hide-input" in cell.metadata.get("tags", [])
    if hidden:
        kind, title = "tool", html.escape(title_of(source))
        source = re.sub(r"^# @title .*\n", "", source)
    page = highlight(source, PythonLexer(), HtmlFormatter())
    if not hidden and num_lines < FOLDED_FROM:
        return page
    summary = f"<summary>{title}</summary>"
    return f'<details class="{kind}">{summary}{page}</details>'


def output_as_html(output):
    """Return one output of a cell as HTML; a script keeps its names to itself."""
    if output.output_type == "stream":
        return f'<div class="output"><pre>{html.escape(output.text)}</pre></div>'
    data = output.get("data", {})
    if "image/png" in data:
        alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
        source = f"data:image/png;base64,{data['image/png'].strip()}"
        return f'<div class="output"><img alt="{alt}" src="{source}"></div>'
    if "application/javascript" in data:
        script = data["application/javascript"].replace("</", "<\\/")
        return f"<script>(function () {{\n{without_hosts(script)}\n}})();</script>"
    if "text/html" in data:
        kind = "output cards" if "flip-container" in data["text/html"] else "output"
        return f'<div class="{kind}">{data["text/html"]}</div>'
    text = html.escape(data.get("text/plain", ""))
    return f'<div class="output"><pre>{text}</pre></div>'


def without_hosts(script):
    """Return JavaScript that asks no host for MathJax: formulas are MathML here."""
    return re.sub(r"https?://cdn\.[^'\"]+", "", script)


def table_of_contents(chapters):
    """Return the list of `chapters` with their sections, each chapter foldable."""
    lines = []
    for chapter in chapters:
        title = next(text for level, _, text in chapter.contents if level == 1)
        inner = f'<a href="#{chapter.name}">{title}</a>'
        sections = "".join(
            f'<li><a href="#{anchor}">{text}</a></li>' for level, anchor, text in chapter.contents if level == 2
        )
        if sections:
            summary = f"<summary>{inner}</summary>"
            inner = f"<details>{summary}<ul>{sections}</ul></details>"
        lines.append(f"<li>{inner}</li>")
    return "<ul>" + "\n".join(lines) + "</ul>"


def make_page(folder=FOLDER, names=CHAPTERS, address=None):
    """Return the HTML document of the chapters `names` (file stems) in this order.

    A chapter is NAME.ipynb in `folder`, an executed notebook, or NAME.md there;
    FileNotFoundError if one has neither. `address` is the repository as owner/name, by
    default the one in pyproject.toml.
    """
    base = f"https://github.com/{address or repository()}/blob/main/"
    chapters = []
    for name in names:
        chapter = Chapter(name, set(names), base)
        notebook, page = folder / f"{name}.ipynb", folder / f"{name}.md"
        if notebook.exists():
            chapter.add_notebook(nbformat.read(notebook, as_version=4))
        else:
            chapter.parts.append(chapter.markdown(page.read_text(encoding="utf-8")))
        chapters.append(chapter)
    articles = (f'<article id="{chapter.name}">\n' + "\n".join(chapter.parts) + "\n</article>" for chapter in chapters)
    colors = HtmlFormatter().get_style_defs(".highlight")
    return DOCUMENT.format(
        title=TITLE,
        policy=POLICY,
        style=STYLE.read_text(encoding="utf-8") + colors,
        contents=table_of_contents(chapters),
        articles="\n".join(articles),
        script=SCRIPT,
    )


def print_as_pdf(page):
    """Print the HTML file `page` into a PDF beside it; return its path, or None if no browser could do it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    pdf = page.with_suffix(".pdf")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += [f"--print-to-pdf={pdf}", page.as_uri()]
    try:
        subprocess.run(command, capture_output=True, timeout=300, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return pdf if pdf.exists() else None


def main():
    """Write logs/html/guidebook.html and .pdf; return the exit status."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    path = ROOT / "logs" / "html" / "guidebook.html"
    text = make_page()
    try:
        write_atomically(path, text)
    except OSError as error:
        print(f"{path.name} could not be written: {error}")
        return 1
    size = f"{len(text) / 1e6:.1f} MB"
    print(f"{path.relative_to(ROOT)}: {size}, one file, opens without a network")
    pdf = print_as_pdf(path)
    print(f"{pdf.relative_to(ROOT)}: the same to print" if pdf else "No PDF: no Chromium or Chrome could print it.")
    return 0


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
<p>Nine lectures, with quizzes that mark themselves, in one file. It needs no network
and no Python. The figures come from the notebooks, which you can run and change; their
sliders move there. Answers are folded: think first, then open. In print, answers
unfold.</p>
</header>
{articles}
</main>
<script>{script}</script>
</body>
</html>
"""
