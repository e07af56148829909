"""The contracts for machines are what the dialects say now; `--write` makes them so."""

import pathlib
import subprocess
import sys

DIALECTS = ["clinic", "diet", "messenger", "portal", "telehealth"]
FILES = {"asyncapi": "docs/asyncapi/{}.json", "typescript": "tests/types/{}.d.ts"}


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    old = []
    for dialect in DIALECTS:
        for form, name in FILES.items():
            command = ["cargo", "run", "--quiet", "--locked", "-p", "trunkline", "--", "contract", form, "--dialect", dialect]
            text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
            file = root / name.format(dialect)
            if "--write" in sys.argv:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            elif not file.exists() or file.read_text() != text:
                old.append(f"{file.relative_to(root)} is old: run `make contracts`")
    for line in old:
        print(line)
    sys.exit(1 if old else 0)


main()
