"""Build the course as a site from the stored outputs of the notebooks, without running anything: python -m tools site

site/_build/html/index.html opens from the disk, with search, quizzes and three live
figures; no page asks another host for anything. Copies of the notebooks in the form
that Sphinx reads, with links that lead to pages, lie in site/_build/source.
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
from pathlib import Path, PurePosixPath

import nbformat
from docutils.nodes import make_id
from sphinx.cmd.build import build_main

from tools.course import NOTEBOOKS, ROOT, repository, write_atomically
from tools.course_map import card_of, map_as_svg
from tools.handouts import hand_out
from tools.stills import VIEW
from tools.tables import map_of_guidebook, map_of_notebooks, table_of_results

SITE = ROOT / "site"
PAGES = {  # files that are no notebooks: their pages
    "README.md": "index.html",
    "CONTRIBUTING.md": "contributing.html",
    "results/README.md": "results.html",
    "try.md": "try.html",
}
GLOSSARY = ROOT / "notebooks" / "guidebook" / "glossary.md"
LIVE = {  # the start of a notebook's name: the figure that works on its page, at the place of its widget
    "01_": "descent",
    "02_": "xor",
    "06_": "digits",
}
BADGE = re.compile(r"\[!\[[^]]*\]\([^)]*\)\]\(([^)]*)\)")


def page_of(path):
    """Return the address in the site of the file `path`, relative to the repository, or None if it has no page."""
    if path in PAGES:
        return PAGES[path]
    place = PurePosixPath(path)
    if place.parts[:1] == ("notebooks",) and place.suffix in (".ipynb", ".md"):
        return str(place.with_suffix(".html"))
    return None


def link_target(link, place):
    """Return where a Markdown `link` of the file `place` (relative to the repository) leads on the site.

    That is a page of the site, and for every other file of the repository its page on GitHub.
    """
    if re.match(r"[a-z]+:", link) or link.endswith(".png"):
        return link
    path, _, anchor = link.partition("#")
    anchor = f"#{make_id(anchor)}" if anchor else ""
    if not path:
        return anchor
    steps = []
    for step in [*PurePosixPath(place).parent.parts, *path.split("/")]:
        steps = steps[:-1] if step == ".." else steps + [step] * (step != ".")
    target = page_of("/".join(steps))
    if target is None:
        return f"https://github.com/{repository()}/blob/main/{'/'.join(steps)}{anchor}"
    own = PurePosixPath(page_of(place) or place).parent
    return "../" * len(own.parts) + target + anchor


def with_links(source, place):
    """Return the Markdown `source` of the file `place` with links that lead where they must on the site."""
    source = re.sub(r"(?<=\]\()([^)\s]+)(?=\))", lambda match: link_target(match[1], place), source)
    return re.sub(r'(?<=href=")([^"]+)(?=")', lambda match: link_target(match[1], place), source)


def links_of_page(path):
    """Return a line of Markdown: the notebook `path` in Colab, to download, and without solutions if it has some."""
    place = path.relative_to(ROOT).as_posix()
    up = "../" * (len(Path(place).parts) - 1)
    links = [
        f"[Open in Colab](https://colab.research.google.com/github/{repository()}/blob/main/{place})",
        f'<a href="{up}_downloads/{path.name}" download>Download the notebook</a>',
        f'<a href="{up}_downloads/handouts/{path.name}" download>Hand-out without solutions</a>',
        f"[Source](https://github.com/{repository()}/blob/main/{place})",
    ]
    return " · ".join(links)


def live_figure(kind):
    """Return the HTML of the figure `kind`, which site/_static/live.js brings to life."""
    return f'<div class="live" data-live="{kind}"><noscript>This figure needs JavaScript.</noscript></div>'


def outputs_of_page(outputs, place, kind):
    """Return the `outputs` of a cell of the file `place` as a page shows them.

    A widget becomes the live figure `kind`, or without one its still picture; links lead where they must.
    """
    result = []
    for output in outputs:
        data = output.get("data", {})
        if VIEW in data:
            if kind:
                data = {"text/html": live_figure(kind)}
            else:
                data = {key: value for key, value in data.items() if key in ("image/png", "text/html")}
            output = nbformat.v4.new_output("display_data", data=data, metadata=output.metadata)
        for kind_of_text in {"text/html", "text/markdown"} & set(output.get("data", {})):
            output.data[kind_of_text] = with_links(output.data[kind_of_text], place)
        if output.output_type == "stream" or output.get("data"):
            result.append(output)
    return result


def as_page(nb, path):
    """Return a copy of the notebook `nb`, read from `path`, in the form that Sphinx turns into a page."""
    nb = nbformat.from_dict(nb)
    nb.metadata.pop("widgets", None)
    place = path.relative_to(ROOT).as_posix()
    kind = next((LIVE[start] for start in LIVE if path.name.startswith(start)), None)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = BADGE.sub(lambda match: links_of_page(path), with_links(cell.source, place))
            continue
        cell.source = re.sub(r'"[\w+/=]{300,}"', '"..."', cell.source)  # packed questions
        cell.outputs = outputs_of_page(cell.outputs, place, kind)
        if cell.source.startswith("# @title "):
            title, _, cell.source = cell.source.partition("\n")
            title = title.removeprefix("# @title ")
            cell.metadata["mystnb"] = {"code_prompt_show": title, "code_prompt_hide": title}
    return nb


def alternative_texts(nb):
    """Return {SHA-256 of a picture: its alternative text} of the pictures in the outputs of `nb`."""
    texts = {}
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        if png := output.get("data", {}).get("image/png"):
            alt = output.metadata.get("image/png", {}).get("alt", "a figure")
            texts[hashlib.sha256(base64.b64decode(png)).hexdigest()] = alt
    return texts


def contents(paths):
    """Return the lines of a table of contents, `title <page>`, for the notebooks `paths`."""
    lines = []
    for path in paths:
        number = re.match(r"\d\d", path.stem) or re.search(r"(?<=lecture_)\d", path.stem)
        title = f"{number[0]} · {card_of(path)[0]}" if number else card_of(path)[0]
        lines.append(f"{title} <{path.relative_to(ROOT).with_suffix('').as_posix()}>")
    return "\n".join(lines)


def landing_page():
    """Return the Markdown of the landing page: site/index.md with map, tables and results as they are now."""
    parts = {
        "map": map_as_svg(NOTEBOOKS),
        "notebooks": map_of_notebooks(ROOT),
        "guidebook": map_of_guidebook(ROOT),
        "results": table_of_results(ROOT / "results"),
    }
    parts["toc of notebooks"] = contents(path for path in NOTEBOOKS if path.parent.name == "notebooks")
    parts["toc of guidebook"] = contents(path for path in NOTEBOOKS if path.parent.name == "guidebook")
    text = (SITE / "index.md").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", BADGE.sub(r"[Colab](\1)", part))
    return with_links(text.replace("REPOSITORY", repository()), "README.md")


def prepare(source, downloads):
    """Write what Sphinx reads into the folder `source`, and the notebooks to download into `downloads`."""
    shutil.rmtree(source, ignore_errors=True)
    texts = {}
    for path in NOTEBOOKS:
        nb = nbformat.read(path, as_version=4)
        page = as_page(nb, path)
        write_atomically(source / path.relative_to(ROOT), nbformat.writes(page))
        write_atomically(downloads / path.name, path.read_text(encoding="utf-8"))
        write_atomically(downloads / "handouts" / path.name, nbformat.writes(hand_out(nb)))
        texts |= alternative_texts(page)
    write_atomically(source / "alternative_texts.json", json.dumps(texts))
    for place in ("CONTRIBUTING.md", "results/README.md", GLOSSARY.relative_to(ROOT).as_posix()):
        text = with_links((ROOT / place).read_text(encoding="utf-8"), place)
        write_atomically(source / Path(page_of(place)).with_suffix(".md"), text)
    write_atomically(source / "index.md", landing_page())
    write_atomically(source / "try.md", with_links((SITE / "try.md").read_text(encoding="utf-8"), "try.md"))
    for path in (ROOT / "docs").glob("*.png"):
        shutil.copy(path, source / path.name)


def build(folder):
    """Build the site in `folder`/html; return Sphinx's exit status, 1 if it warns of anything."""
    prepare(folder / "source", folder / "extra" / "_downloads")
    options = ["-b", "html", "-c", SITE, "-d", folder / "doctrees", "-W", "--keep-going", "-q", "-j", "auto"]
    options += ["-D", f"html_extra_path={folder / 'extra'}", folder / "source", folder / "html"]
    return build_main([str(option) for option in options])


def main():
    """Build the site in site/_build; return the exit status."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    status = build(SITE / "_build")
    print("site/_build/html/index.html" + (": built with warnings, see above" if status else ": open it in a browser"))
    return status
