"""Every relative link in the Markdown files leads somewhere."""

import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    files = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    broken = []
    for name in files:
        file = root / name
        for target in LINK.findall(file.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (file.parent / target).exists():
                broken.append(f"{name}: {target}")
    for line in broken:
        print(line)
    sys.exit(1 if broken else 0)


main()
