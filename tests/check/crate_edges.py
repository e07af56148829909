"""The purity line: crates below it take values and give values. They know no clock, no runtime, no bus.

Reads `cargo metadata`, so that an edge through a renamed dependency is seen too.
"""

import json
import subprocess
import sys

PURE = {"engineio", "socketio", "domain", "dialects", "cluster", "hub"}
# What reads clocks, randomness or the environment, opens sockets or starts tasks.
EDGE_ONLY = {"tokio", "tokio-tungstenite", "async-nats", "rand", "axum", "hyper", "reqwest", "getrandom", "socket2", "tracing", "chrono", "time"}
# A pure crate may use these of the workspace, and no other.
PURE_EDGES = {
    "engineio": set(),
    "socketio": set(),
    "domain": set(),
    "cluster": {"domain", "engineio", "socketio"},
    "dialects": {"domain", "engineio", "socketio"},
    "hub": {"cluster", "dialects", "domain", "engineio", "socketio"},
}
NATS = "async-nats"


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["packages"]
    members = {package["name"] for package in packages}
    wrong = []
    for package in packages:
        name = package["name"]
        normal = {dep["name"] for dep in package["dependencies"] if dep["kind"] in (None, "build")}
        if name in PURE:
            wrong += [f"{name} is pure and must not depend on {dep}" for dep in sorted(normal & EDGE_ONLY)]
            wrong += [f"{name} must not depend on {dep}" for dep in sorted((normal & members) - PURE_EDGES[name])]
        if NATS in normal and name != "bus":
            wrong.append(f"{name} names {NATS}: only bus may")
        if "testkit" in normal:
            wrong.append(f"{name} depends on testkit outside of its tests")
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


main()
