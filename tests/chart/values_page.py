"""docs/chart-values.md from the comments of the chart's values.yaml: `make chart UPDATE=1` writes it."""

import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
VALUES = ROOT / "helm" / "trunkline" / "values.yaml"
PAGE = ROOT / "docs" / "chart-values.md"

HEAD = """# Values of the Helm chart

Made from the comments of `helm/trunkline/values.yaml`: change them there, then `make chart UPDATE=1`. How to use the chart:
[kubernetes.md](kubernetes.md). `values.schema.json` refuses keys that are not here, but for `config` (checked by `trunkline check-config`) and
`nats` (the official NATS chart's own).
"""

KEY = re.compile(r"^( *)([A-Za-z0-9_./-]+):(.*)$")


def entries(text):
    """Path and comment of each key, in order. A comment belongs to the key right below it."""
    comment, path = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            comment = []
        elif stripped.startswith("#"):
            # `#  app:` is an example, and belongs to no key.
            comment = [] if stripped.startswith("#  ") else [*comment, stripped.removeprefix("#").strip()]
        elif found := KEY.match(line):
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            yield list(path), " ".join(comment)
            comment = []


def default_of(values, path):
    for name in path:
        values = values[name]
    return values


def shown(value):
    if isinstance(value, (dict, list)):
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    elif isinstance(value, bool):
        text = str(value).lower()
    elif value == "":
        text = '""'
    else:
        text = str(value)
    return f"`{text}`"


def page(text):
    """One table for each top-level section, and one for the keys that are no section."""
    values = yaml.safe_load(text)
    tables, lead = {"": []}, {}
    for path, comment in entries(text):
        value = default_of(values, path)
        top = path[0]
        if len(path) == 1 and isinstance(value, dict) and value:
            tables[top], lead[top] = [], comment
            continue
        table = tables[top if top in tables else ""]
        if isinstance(value, dict) and value:
            # A section within: its keys stand for themselves, unless it has something to say.
            if comment:
                table.append(f"| `{'.'.join(path)}` | | {comment} |")
            continue
        table.append(f"| `{'.'.join(path)}` | {shown(value)} | {comment.replace('|', chr(92) + '|')} |")
    parts = [HEAD]
    for section, rows in tables.items():
        title = f"\n## {section}\n" if section else "\n## In general\n"
        intro = f"{lead[section]}\n\n" if lead.get(section) else ""
        parts.append(f"{title}{intro}| key | default | what |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "".join(parts)
