"""Alerts and dashboard: they name metrics of the documentation only, every alert has a runbook and a test, and promtool agrees.

Whether the documentation lists what is served, and whether queries can be answered, is seen on a running cluster:
tests/e2e/observability.test.mjs.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "helm/trunkline/files/rules.yaml"
DASHBOARD = ROOT / "helm/trunkline/files/dashboard.json"
RULES_TEST = ROOT / "tests/check/rules_test.yaml"
NAME = re.compile(r"\b(?:trunkline|process)_[a-z0-9_]+")
# Prometheus adds it to every target.
OWN = {"up"}


def documented():
    """Names of the table, with the series of histograms."""
    names = set()
    for line in (ROOT / "docs/observability.md").read_text().splitlines():
        if row := re.match(r"\| `((?:trunkline|process)_[a-z0-9_]+)` \| (\w+) \|", line):
            series = ["_bucket", "_sum", "_count"] if row[2] == "histogram" else [""]
            names |= {row[1] + end for end in series}
    return names


def dashboard_queries():
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [note["expr"] for note in dashboard["annotations"]["list"]]
    return queries + [it["definition"] for it in dashboard["templating"]["list"] if "definition" in it]


def main():
    wrong = []
    known = documented() | OWN
    rules = RULES.read_text()
    expressions = re.sub(r"(?m)^ +(summary|description|runbook_url):.*$|^ *#.*$", "", rules)
    for place, texts in [("rules.yaml", [expressions]), ("dashboard.json", dashboard_queries())]:
        names = {name for text in texts for name in NAME.findall(text)}
        wrong += [f"{place} names {name}, which docs/observability.md does not list" for name in sorted(names - known)]
    alerts = re.findall(r"(?m)^ +- alert: (\w+)$", rules)
    headings = set(re.findall(r"(?m)^## (\w+)$", (ROOT / "docs/runbooks.md").read_text()))
    tested = set(re.findall(r"(?m)^ +alertname: (\w+)$", RULES_TEST.read_text()))
    for alert in alerts:
        if f"runbook_url: docs/runbooks.md#{alert.lower()}\n" not in rules or alert not in headings:
            wrong.append(f"{alert} has no runbook")
        if alert not in tested:
            wrong.append(f"{alert} never fires in {RULES_TEST.name}")
    wrong += [f"docs/runbooks.md: there is no alert {name}" for name in sorted(headings - set(alerts))]
    if shutil.which("promtool"):
        for command in (["check", "rules", RULES], ["test", "rules", RULES_TEST]):
            done = subprocess.run(["promtool", *command], capture_output=True, text=True)
            if done.returncode != 0:
                wrong.append(done.stdout + done.stderr)
    else:
        print("promtool is not installed: rules are checked for names only")
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


main()
