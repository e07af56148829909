"""Every case renders, is what Kubernetes knows, is what was expected, and configures a real process.

`make chart UPDATE=1` writes what is expected anew: look at the difference.
"""

import json
import os
import re
import tomllib
import unittest

import helm_python
import kubernetes_validate
import yaml

import chart

# The oldest that the chart says it is for, the one with `sleep` out of beta, and the newest whose schemas there are.
VERSIONS = ["1.30", "1.34", "1.37"]
CUSTOM = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "HTTPRoute"}
EXPECTED = chart.HERE / "expected"


def setUpModule():
    global charts, rendered
    charts = chart.Charts()
    rendered = {name: charts.render(values) for name, values in chart.cases().items()}


def tearDownModule():
    charts.close()


def each_case(test):
    def run(self):
        for name, objects in rendered.items():
            with self.subTest(case=name):
                test(self, name, objects)

    return run


def kinds(objects):
    return {key: value for key, value in objects.items() if key != "notes"}


class Objects(unittest.TestCase):
    known = set()

    def test_the_chart_passes_strict_lint(self):
        for name, values in chart.cases().items():
            with self.subTest(case=name):
                report = helm_python.lint(charts.path, values, strict=True, namespace=chart.NAMESPACE)
                self.assertEqual(report["errors"], [])

    @each_case
    def test_kubernetes_knows_the_objects(self, _, objects):
        for value in kinds(objects).values():
            # Most objects are the same in many cases.
            text = json.dumps(value)
            if value["kind"] in CUSTOM or text in self.known:
                continue
            for version in VERSIONS:
                kubernetes_validate.validate(value, version, strict=True)
            self.known.add(text)

    @each_case
    def test_names_and_labels(self, name, objects):
        for key, value in kinds(objects).items():
            if key == "ConfigMap nats-values":
                continue
            metadata = value["metadata"]
            self.assertRegex(metadata["name"], "^[a-z]([-a-z0-9]*[a-z0-9])?$")
            self.assertLessEqual(len(metadata["name"]), 63)
            self.assertEqual(metadata["namespace"], chart.NAMESPACE)
            self.assertEqual(metadata["labels"]["app.kubernetes.io/instance"], chart.RELEASE, key)

    @each_case
    def test_pods_are_restricted(self, _, objects):
        for value in kinds(objects).values():
            if value["kind"] != "Deployment":
                continue
            spec = value["spec"]["template"]["spec"]
            self.assertFalse(spec["automountServiceAccountToken"])
            self.assertFalse(spec["enableServiceLinks"])
            self.assertTrue(spec["securityContext"]["runAsNonRoot"])
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            context = spec["containers"][0]["securityContext"]
            self.assertEqual(
                context, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            )
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertNotIn(key, spec)

    @each_case
    def test_selectors_find_their_pods(self, _, objects):
        labels = {
            key.rsplit("-", 1)[-1]: value["spec"]["template"]["metadata"]["labels"]
            for key, value in objects.items()
            if key.startswith("Deployment")
        }
        for key, value in kinds(objects).items():
            spec = value.get("spec", {})
            if value["kind"] == "Service":
                selector = spec["selector"]
            elif value["kind"] in {"PodDisruptionBudget", "Deployment", "PodMonitor"}:
                selector = spec["selector"]["matchLabels"]
            else:
                continue
            found = {role for role, pod in labels.items() if selector.items() <= pod.items()}
            role = selector.get("app.kubernetes.io/component")
            self.assertEqual(found, {role} if role else {"gateway", "coordinator"}, key)

    @each_case
    def test_ports_lead_to_ports(self, _, objects):
        containers = {
            key.rsplit("-", 1)[-1]: {port["name"] for port in value["spec"]["template"]["spec"]["containers"][0]["ports"]}
            for key, value in objects.items()
            if key.startswith("Deployment")
        }
        services = {value["metadata"]["name"]: value for value in kinds(objects).values() if value["kind"] == "Service"}
        for service in services.values():
            names = containers[service["spec"]["selector"]["app.kubernetes.io/component"]]
            self.assertLessEqual({port["targetPort"] for port in service["spec"]["ports"]}, names)
        for value in kinds(objects).values():
            backends = []
            if value["kind"] == "Ingress":
                paths = [path for rule in value["spec"]["rules"] for path in rule["http"]["paths"]]
                backends = [(p["backend"]["service"]["name"], p["backend"]["service"]["port"]["number"]) for p in paths]
            elif value["kind"] == "HTTPRoute":
                backends = [(ref["name"], ref["port"]) for rule in value["spec"]["rules"] for ref in rule["backendRefs"]]
            for name, port in backends:
                self.assertIn(port, [known["port"] for known in services[name]["spec"]["ports"]])

    @each_case
    def test_no_service_has_affinity(self, _, objects):
        for value in kinds(objects).values():
            if value["kind"] == "Service" and value["spec"].get("clusterIP") != "None":
                self.assertEqual(value["spec"]["sessionAffinity"], "None")

    @each_case
    def test_nodes_are_given_the_time_of_their_drain(self, _, objects):
        for key, value in objects.items():
            if not key.endswith("-gateway") or not key.startswith("Deployment"):
                continue
            spec = value["spec"]["template"]["spec"]
            drain = tomllib.loads(chart.configuration(objects, key.split()[1].removesuffix("-gateway")))["node"]["drain_s"]
            before = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], before + drain + 15)
            self.assertEqual(value["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0)

    @each_case
    def test_expected(self, name, objects):
        """`minimal` is kept whole; of others, what is not as there."""
        found = stable(objects)
        if name != "minimal":
            found = difference(stable(rendered["minimal"]), found)
        file = EXPECTED / f"{name}.yaml"
        if os.environ.get("UPDATE"):
            file.write_text(yaml.dump(found, Dumper=Blocks, sort_keys=True, width=140, allow_unicode=True))
        # Compared as objects, whose difference can be read.
        self.maxDiff = None
        self.assertEqual(found, yaml.safe_load(file.read_text()), "if it is meant: make chart UPDATE=1")

    def test_nothing_is_expected_that_is_not_rendered(self):
        self.assertEqual({file.stem for file in EXPECTED.iterdir()}, set(rendered))


class Blocks(yaml.SafeDumper):
    """Texts of several lines as they are."""


Blocks.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


def difference(base, found):
    """What `found` has otherwise; `null` for what it lacks. Things with names are compared by name, in whatever order."""
    if named(base) and named(found):
        base, found = ({item["name"]: item for item in items} for items in (base, found))
    if not (isinstance(base, dict) and isinstance(found, dict)):
        return found
    changed = {key for key in base.keys() | found.keys() if base.get(key) != found.get(key)}
    return {key: difference(base.get(key), found.get(key)) for key in changed}


def named(items):
    return isinstance(items, list) and bool(items) and all(isinstance(item, dict) and "name" in item for item in items)


def stable(objects):
    """Without what follows from other files: checksums, and the texts of files/."""
    text = re.sub('"checksum/config": "[0-9a-f]{64}"', '"checksum/config": "of the configuration"', json.dumps(kinds(objects)))
    result = json.loads(text)
    for key, value in result.items():
        if value["kind"] == "PrometheusRule":
            value["spec"] = "files/rules.yaml"
        if key.endswith("-dashboard"):
            value["data"] = {name: "files/dashboard.json" for name in value["data"]}
    return result


class Configuration(unittest.TestCase):
    @each_case
    def test_the_binary_accepts_it(self, name, objects):
        full = "rt" if name == "bare" else f"{chart.RELEASE}-trunkline"
        with chart.Machine(objects, name=full) as machine:
            checked = machine.check_config()
            self.assertEqual((checked.returncode, checked.stderr), (0, ""), chart.configuration(objects, full))
            effective = tomllib.loads(checked.stdout)
            self.assertEqual(effective["production"], chart.values(name).get("production", True))
            self.assertEqual(effective["node"]["name"], "pod-1")

    @each_case
    def test_a_changed_configuration_rolls_the_pods(self, name, objects):
        values = chart.values(name)
        louder = charts.render(chart.merged(values, {"config": {"log": "debug"}}))
        for key, value in objects.items():
            if key.startswith("Deployment"):
                checksum = value["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
                other = louder[key]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
                self.assertNotEqual(checksum, other)

    def test_a_wrong_key_is_the_binary_s_to_refuse(self):
        values = chart.merged(chart.values("minimal"), {"config": {"limits": {"max_paylod_bytes": 5}}})
        with chart.Machine(charts.render(values)) as machine:
            checked = machine.check_config()
            self.assertEqual(checked.returncode, 2)
            self.assertIn("max_paylod_bytes", checked.stderr)

    def test_values_of_every_kind_arrive_as_they_are(self):
        rights = [{"room": "visit:*", "claim": "visits"}, {"room": 'a "quoted" \\ room:*', "roles": ["admin"]}]
        token = {"secret_env": "VISITS_JWT_SECRET", "leeway_s": 30, "issuer": ["https://é.example"]}
        app = {"name": "visits", "dialect": "telehealth", "cors_origins": [], "rights": rights, "token": token}
        app["limits"] = {"max_payload_bytes": 1073741824, "message_chars": None}
        values = chart.merged(chart.values("minimal"), {"config": {"app": [app], "log": "info,gateway=debug"}})
        text = chart.configuration(charts.render(values))
        written = tomllib.loads(text)["app"][0]
        del app["limits"]["message_chars"]
        self.assertEqual(written, app)
        self.assertIsInstance(written["limits"]["max_payload_bytes"], int)
        # As typed into a file, Helm hands numbers over in another form.
        self.assertNotIn("e+", text)

    def test_coordinators_get_the_secrets_of_turn_alone(self):
        objects = rendered["turn-and-api"]
        names = lambda role: {entry["name"] for entry in chart.pod(objects, role)["containers"][0]["env"]}
        self.assertEqual(names("coordinator"), {"TRUNKLINE_NODE__NAME", "TURN_SECRET"})
        self.assertEqual(names("gateway"), {"TRUNKLINE_NODE__NAME", "TURN_SECRET", "JWT_SECRET", "SHOP_API_KEY"})
        volumes = lambda role: {volume["name"] for volume in chart.pod(objects, role)["volumes"]}
        self.assertEqual(volumes("coordinator"), {"config", "secret-turn-eu"})
        self.assertEqual(volumes("gateway"), {"config", "secret-turn-eu", "secret-identity"})

    def test_the_nats_chart_is_told_of_a_cluster_with_jetstream(self):
        given = yaml.safe_load(rendered["bundled-nats"]["ConfigMap nats-values"]["data"]["values.yaml"])
        config = given["config"]
        self.assertEqual(config["cluster"], {"enabled": True, "replicas": 3})
        self.assertTrue(config["jetstream"]["enabled"] and config["jetstream"]["fileStore"]["pvc"]["enabled"])
        self.assertEqual(config["merge"], {"max_payload": 4194304})
        text = chart.configuration(rendered["bundled-nats"])
        self.assertEqual(tomllib.loads(text)["nats"], {"servers": ["nats://prod-nats.realtime.svc:4222"], "replicas": 3})

    def test_the_nats_service_is_named_as_its_chart_names_it(self):
        for release, overrides, expected in [
            ("my-nats", {}, "my-nats"),
            ("prod", {"nameOverride": "bus"}, "prod-bus"),
            ("prod", {"fullnameOverride": "bus"}, "bus"),
            ("prod", {"service": {"name": "bus"}}, "bus"),
        ]:
            with self.subTest(release=release, overrides=overrides):
                objects = charts.render(chart.merged(chart.values("bundled-nats"), {"nats": overrides}), release)
                text = chart.configuration(objects, f"{release}-trunkline")
                self.assertEqual(tomllib.loads(text)["nats"]["servers"], [f"nats://{expected}.realtime.svc:4222"])

    def test_the_version_is_the_binary_s(self):
        cargo = tomllib.loads((chart.ROOT / "Cargo.toml").read_text())
        metadata = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
        self.assertEqual(metadata["appVersion"], cargo["workspace"]["package"]["version"])


def endpoint(interval):
    relabelings = [{"targetLabel": "job", "replacement": "trunkline"}]
    return {"port": "admin", "path": "/metrics", "interval": interval, "relabelings": relabelings}


class Custom(unittest.TestCase):
    """What no schema is at hand for."""

    def test_http_routes(self):
        routes = {key.split()[1]: value for key, value in rendered["gateway-api"].items() if key.startswith("HTTPRoute")}
        self.assertEqual(set(routes), {"prod-trunkline-visits-example-com", "prod-trunkline-visits-example-org"})
        route = routes["prod-trunkline-visits-example-com"]
        self.assertEqual(route["apiVersion"], "gateway.networking.k8s.io/v1")
        self.assertEqual(set(route["spec"]), {"parentRefs", "hostnames", "rules"})
        self.assertEqual(route["spec"]["parentRefs"], [{"name": "public", "namespace": "ingress", "sectionName": "https"}])
        self.assertEqual(route["spec"]["hostnames"], ["visits.example.com"])
        rule = lambda path, port: {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": "prod-trunkline", "port": port}],
            "timeouts": {"request": "0s"},
        }
        self.assertEqual(route["spec"]["rules"], [rule("/socket.io", 80), rule("/talk", 3001)])

    def test_pod_monitor(self):
        monitor = rendered["prometheus"]["PodMonitor prod-trunkline"]
        self.assertEqual(monitor["apiVersion"], "monitoring.coreos.com/v1")
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        self.assertEqual(monitor["spec"]["podMetricsEndpoints"], [endpoint("30s")])
        self.assertEqual(monitor["spec"]["namespaceSelector"], {"matchNames": ["realtime"]})

    def test_service_monitor(self):
        objects = rendered["service-monitor"]
        monitor = objects["ServiceMonitor prod-trunkline"]
        self.assertEqual(monitor["spec"]["endpoints"], [endpoint("15s")])
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        services = {key for key, value in objects.items() if key.startswith("Service ") and selector <= value["metadata"]["labels"].items()}
        self.assertEqual(services, {"Service prod-trunkline-gateway-metrics", "Service prod-trunkline-coordinator-metrics"})

    def test_rules_and_dashboard_are_the_files_as_they_are(self):
        objects = rendered["prometheus"]
        rules = yaml.safe_load((chart.CHART / "files" / "rules.yaml").read_text())
        rule = objects["PrometheusRule prod-trunkline"]
        self.assertEqual((rule["apiVersion"], rule["spec"]), ("monitoring.coreos.com/v1", rules))
        self.assertTrue(rules["groups"])
        elsewhere = {"metrics": {"prometheusRule": {"runbooks": "https://docs.example.com/runbooks.html"}}}
        objects_elsewhere = charts.render(chart.merged(chart.values("prometheus"), elsewhere))
        for group in objects_elsewhere["PrometheusRule prod-trunkline"]["spec"]["groups"]:
            for alert in group["rules"]:
                if "alert" in alert:
                    link = f"https://docs.example.com/runbooks.html#{alert['alert'].lower()}"
                    self.assertEqual(alert["annotations"]["runbook_url"], link)
        dashboard = objects["ConfigMap prod-trunkline-dashboard"]
        self.assertEqual(dashboard["data"]["trunkline.json"].strip(), (chart.CHART / "files" / "dashboard.json").read_text().strip())
        self.assertEqual(dashboard["metadata"]["labels"]["grafana_dashboard"], "1")

    def test_notes_say_where_clients_come_in_and_what_is_open(self):
        for case, parts in {
            "gateway-api": ["visits.example.com/talk", "visits.example.org/socket.io", "Gateways: 3. Coordinators: 2."],
            "autoscaling-cpu": ["Gateways: 4 to 8."],
            "minimal": ["NATS is used without a login: whoever may write to it is Trunkline.", "Nobody scrapes the metrics"],
            "development": ["diet has no authentication", "production is false"],
            "turn-and-api": ["http://prod-trunkline-api.realtime.svc:80/v1/"],
        }.items():
            for part in parts:
                with self.subTest(case=case):
                    self.assertIn(part, rendered[case]["notes"])
        for part in ["without a login", "Nobody scrapes", "production is false"]:
            self.assertNotIn(part, rendered["nats-mutual-tls" if "login" in part else "prometheus"]["notes"])

    def test_the_autoscaler_s_metric_is_one_of_ours(self):
        metrics = (chart.ROOT / "crates" / "gateway" / "src" / "metrics.rs").read_text()
        autoscaler = rendered["autoscaling-connections"]["HorizontalPodAutoscaler prod-trunkline-gateway"]
        self.assertIn(f'"{autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"]}"', metrics)
        self.assertNotIn("replicas", rendered["autoscaling-connections"]["Deployment prod-trunkline-gateway"]["spec"])


if __name__ == "__main__":
    unittest.main()
