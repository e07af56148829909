"""Every page of the documentation is in the book, every command in a page says whether it is run (tests/lib/pages.mjs has the marks), and
the capacity page reckons with figures of the benchmarks."""

import pathlib
import re
import subprocess
import sys

FENCE = re.compile(r"^ *```(\S*)")
MARK = re.compile(r"^<!-- (?:file: .+|run|run if: .+|serve: .+|not run: .+|run by: (\S+)) -->$")
SHELLS = {"sh", "bash", "shell", "console"}
# Examples are scripts, not pages.
NOT_IN_THE_BOOK = {"docs/SUMMARY.md"}


def unmarked(root, name):
    """Lines of blocks with commands before which no mark stands, and marks that name a test which is not there."""
    block, last = False, ""
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if block:
            block = not (fence and not fence.group(1))
        elif fence:
            mark = MARK.match(last)
            if fence.group(1) in SHELLS and not mark:
                yield f"{name}:{number}: commands without a mark that says whether they are run"
            if mark and mark.group(1) and not (root / mark.group(1)).exists():
                yield f"{name}:{number}: {mark.group(1)} does not exist"
            block = True
        last = line.strip() or last


def out_of_the_book(root, pages):
    """Links that lead out of docs/: readers of the book would find nothing there."""
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", (root / "docs" / page).read_text()):
            if "://" not in target and not (root / "docs" / page).parent.joinpath(target).resolve().is_relative_to(root / "docs"):
                yield f"docs/{page}: {target} is not in the book: name the file as `text`"


def old_figures(root):
    """Figures of the capacity page's first table that the benchmarks do not have."""
    table = (root / "docs/capacity.md").read_text().split("## Measured unit costs")[1].split("\n\n")[0]
    known = set(re.findall(r"\d+(?:\.\d+)?", (root / "docs/benchmarks.md").read_text()))
    for row in re.findall(r"^\|[^|]*\|([^|]*)\|", table, re.M):
        for figure in re.findall(r"\d+(?:\.\d+)?", row):
            if figure not in known:
                yield f"docs/capacity.md: {figure} is not in docs/benchmarks.md: take the new figure and do the arithmetic of the page again"


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    files = subprocess.run(["git", "ls-files", "README.md", "docs/*.md"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    wrong = [line for name in files for line in unmarked(root, name)]
    summary = set(re.findall(r"\]\(([^)]+)\)", (root / "docs/SUMMARY.md").read_text()))
    pages = {name.removeprefix("docs/") for name in files if name.startswith("docs/") and name not in NOT_IN_THE_BOOK}
    wrong += [f"docs/{page} is not in docs/SUMMARY.md" for page in sorted(pages - summary)]
    wrong += out_of_the_book(root, sorted(pages))
    wrong += old_figures(root)
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


main()
