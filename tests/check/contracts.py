"""What is printed from the types is current: the contracts for machines and the configuration reference. `--write` makes it so."""

import pathlib
import subprocess
import sys

DIALECTS = ["clinic", "diet", "messenger", "portal", "telehealth"]
CONTRACTS = {"asyncapi": "docs/asyncapi/{}.json", "typescript": "tests/types/{}.d.ts"}


def printed():
    """Each file, and the arguments of the command that prints it."""
    for dialect in DIALECTS:
        for form, name in CONTRACTS.items():
            yield name.format(dialect), ["contract", form, "--dialect", dialect]
    yield "docs/configuration-reference.md", ["config-reference"]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    old = []
    for name, arguments in printed():
        command = ["cargo", "run", "--quiet", "--locked", "-p", "trunkline", "--", *arguments]
        text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
        file = root / name
        if "--write" in sys.argv:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            old.append(f"{name} is old: run `make contracts`")
    for line in old:
        print(line)
    sys.exit(1 if old else 0)


main()
