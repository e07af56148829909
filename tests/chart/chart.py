"""The chart, rendered as Helm would: the cases, their objects, and the process that a pod would run."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import helm_python
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHART = ROOT / "helm" / "trunkline"
TRUNKLINE = ROOT / "target" / "debug" / "trunkline"

RELEASE, NAMESPACE = "prod", "realtime"

# Made for these tests; its private half is nowhere.
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAanREylXKbfrN8Ltr7fZWdTaXahBG6Tps/Awyn8T+mZc=
-----END PUBLIC KEY-----
"""


class Refused(Exception):
    """The chart does not render; the text is what an operator sees."""


def cases():
    """Names and values of all settings that are rendered."""
    return {file.stem: values(file.stem) for file in sorted((HERE / "cases").glob("*.yaml"))}


def values(case):
    return json.loads(parsed(case))


@functools.cache
def parsed(case):
    """As JSON: to parse YAML takes its time."""
    return json.dumps(yaml.safe_load((HERE / "cases" / f"{case}.yaml").read_text()))


def merged(base, *changes):
    """`base` with the changes over it, as Helm lays one values file over another."""
    result = json.loads(json.dumps(base))
    for change in changes:
        for key, value in change.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


class Charts:
    """A copy of the chart with a stand-in for the official NATS chart, which is not in the tree."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="trunkline-chart-")
        self.path = pathlib.Path(self.directory.name) / "trunkline"
        shutil.copytree(CHART, self.path, ignore=shutil.ignore_patterns("charts"))
        shutil.copytree(HERE / "stub", self.path / "charts" / "nats")

    def close(self):
        self.directory.cleanup()

    def render(self, given, release=RELEASE, path=None):
        """Objects by `Kind name`, the NOTES under `notes`. All that fails to render is `Refused`."""
        try:
            # Loaded each time: to render takes disabled dependencies out of what is loaded.
            with helm_python.Chart.load(path or self.path) as chart:
                texts = chart.render(given, name=release, namespace=NAMESPACE)
        except helm_python.HelmError as error:
            raise Refused(str(error)) from None
        objects = {}
        for path, text in texts.items():
            if path.endswith("NOTES.txt"):
                objects["notes"] = text
                continue
            for document in filter(None, yaml.load_all(text, UniqueKeys)):
                key = f"{document['kind']} {document['metadata']['name']}"
                assert key not in objects, f"{key} is there twice"
                objects[key] = document
        return objects


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Kubernetes refuses what says a key twice; PyYAML takes the last."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        doubled = {name for name in names if names.count(name) > 1}
        assert not doubled, f"keys that are there twice: {doubled}"
        return super().construct_mapping(node, deep)


def pod(objects, role, name=f"{RELEASE}-trunkline"):
    return objects[f"Deployment {name}-{role}"]["spec"]["template"]["spec"]


def configuration(objects, name=f"{RELEASE}-trunkline"):
    return objects[f"ConfigMap {name}"]["data"]["trunkline.toml"]


class Machine:
    """What a pod of the rendered release has: its files, with made-up secrets in them, and its environment."""

    def __init__(self, objects, role="gateway", name=f"{RELEASE}-trunkline"):
        self.directory = tempfile.TemporaryDirectory(prefix="trunkline-pod-")
        self.root = pathlib.Path(self.directory.name)
        self.spec = pod(objects, role, name)
        self.container = self.spec["containers"][0]
        self.environment = {entry["name"]: self._value(entry) for entry in self.container["env"]}
        text = configuration(objects, name)
        for path in set(re.findall(r'"(/etc/trunkline/[^"]+)"', text)):
            if any(path.startswith(mount["mountPath"] + "/") for mount in self.container["volumeMounts"]):
                self._write(path, self._secret_file(path))
        self.config = self._write("/etc/trunkline/config/trunkline.toml", text.replace("/etc/trunkline/", f"{self.root}/etc/trunkline/"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def _write(self, path, text):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    @staticmethod
    def _value(entry):
        if "secretKeyRef" in entry.get("valueFrom", {}):
            # Longer than any key must be; a seed has a form of its own.
            return f"made-up-for-tests-of-the-chart-{entry['name'].lower()}"
        return entry.get("value", "pod-1")

    @staticmethod
    def _secret_file(path):
        tls = ROOT / "crates" / "bus" / "tests" / "tls"
        known = {"ca.crt": tls / "ca.pem", "tls.crt": tls / "client.pem", "tls.key": tls / "client.key"}
        name = path.rsplit("/", 1)[-1]
        if name in known:
            return known[name].read_text()
        return PUBLIC_KEY if name.endswith(".pem") else "made-up-for-tests-of-the-chart"

    def check_config(self):
        """Status, effective configuration and mistakes of `trunkline check-config`, with the pod's files and environment."""
        return subprocess.run(
            [TRUNKLINE, "check-config", "--config", self.config], env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
