"""Every relative link in the Markdown files leads somewhere, to a heading too."""

import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^ *```.*?^ *```$", re.S | re.M)


def headings(file):
    """Anchors of a page, as GitHub and mdBook make them."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", file.read_text()), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text.lower()).strip()) for text in found}


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    files = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    broken = []
    for name in files:
        file = root / name
        for target, anchor in LINK.findall(FENCED.sub("", file.read_text())):
            if "://" in target or target.startswith("mailto:"):
                continue
            page = file.parent / target if target else file
            if not page.exists() or (anchor and page.suffix == ".md" and anchor not in headings(page)):
                broken.append(f"{name}: {target}{'#' + anchor if anchor else ''}")
    for line in broken:
        print(line)
    sys.exit(1 if broken else 0)


main()
