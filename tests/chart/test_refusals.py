"""What the chart refuses: unsafe combinations with a sentence, everything else by the schema."""

import json
import shutil
import unittest

import helm_python
import yaml

import chart


def setUpModule():
    global charts
    charts = chart.Charts()


def tearDownModule():
    charts.close()


def app(**changes):
    """`minimal` with changes of its application; `None` takes a key out."""
    base = chart.values("minimal")
    merged = chart.merged(base["config"]["app"][0], changes)
    return {"config": {"app": [{key: value for key, value in merged.items() if value is not None}]}}


def values(path, value):
    """The values that say `value` at a dotted path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


# (what is changed of `minimal`, what the operator reads)
UNSAFE = [
    (app(token=None), "config.app[0] (visits) has no key to verify tokens with: name one in token.secret_env"),
    (app(token={"secret_env": None}), "config.app[0] (visits) has no key to verify tokens with"),
    # JWT_SECRET is a key for HS algorithms only.
    (
        {**app(token={"secret_env": None, "algorithms": ["RS256"]}), "secrets": {"env": {"JWT_SECRET": {"secret": "s", "key": "k"}}}},
        "config.app[0] (visits) has no key to verify tokens with",
    ),
    (app(dialect="diet", auth="none"), "has auth: none, so whoever connects may say to be any user: use auth: jwt, or say that it is meant with acknowledge_no_auth: true."),
    (app(dialect="conformance", profile="socketio"), "speaks the dialect `conformance`, which has no authentication: it is for tests, with production: false."),
    (app(dev_users=[{"email": "a@b", "password": "x", "user": "1"}]), "has dev_users, which are for development: take them out, or set production: false."),
    (app(dialect="messenger", chat={"open": True}), "has chat.open, which lets everybody into every chat"),
    (app(dialect="portal", issue={"cookie": {"secure": False}}), "has issue.cookie.secure: false, which sends tokens without TLS"),
    (app(token={"secret": "development-key"}), "config.app[0].token.secret is a secret in plain text, and the configuration is a ConfigMap"),
    (app(hook={"url": "https://h", "secret": "x"}), "config.app[0].hook.secret is a secret in plain text"),
    (app(ice={"turn": [{"urls": ["turn:t"], "secret": "x"}]}), "config.app[0].ice.turn[0].secret is a secret in plain text"),
    (app(token={"keys": [{"pem": "-----BEGIN PRIVATE KEY-----\n"}]}), "config.app[0].token.keys[0].pem is a secret in plain text"),
    (app(dev_users=[{"email": "a@b", "password": "x", "user": "1"}]), "config.app[0].dev_users[0].password is a secret in plain text"),
    (values("config.api.keys", [{"name": "shop", "secret": "0123456789abcdef"}]), "config.api.keys[0].secret is a secret in plain text"),
    (values("gateway.extraEnv", [{"name": "JWT_SECRET", "value": "x"}]), "gateway.extraEnv[0] has the secret JWT_SECRET in plain text"),
    (values("gateway.extraEnv", [{"name": "VISITS_JWT_SECRET", "value": "x"}]), "gateway.extraEnv[0] has the secret VISITS_JWT_SECRET in plain text"),
    (values("coordinator.extraEnv", [{"name": "TRUNKLINE_NATS__PASSWORD", "value": "x"}]), "coordinator.extraEnv[0] has the secret TRUNKLINE_NATS__PASSWORD in plain text"),
    (values("gateway.extraEnv", [{"name": "TRUNKLINE_PRODUCTION", "value": "false"}]), "gateway.extraEnv[0] sets TRUNKLINE_PRODUCTION, which is the chart's own: set production."),
    (values("natsClient.servers", ["nats://me:hunter2@nats.example"]), "natsClient.servers[0] has a login in its address, in plain text: use natsClient.login."),
    (values("config.nats.password", "hunter2"), "config.nats.password is a secret in plain text"),
    (values("gateway.replicas", 1), "gateway.replicas is 1, so the loss of one is an outage: use at least 2, or set production: false."),
    (values("coordinator.replicas", 1), "coordinator.replicas is 1, so the loss of one is an outage: use at least 2"),
    (values("natsClient.replicas", 1), "natsClient.replicas is 1, so the loss of one is an outage: use 3 or 5"),
    (values("gateway.autoscaling", {"enabled": True, "minReplicas": 1}), "gateway.autoscaling.minReplicas is 1, so the loss of one is an outage"),
]

# What would not start, or not do what it says; in development just as in production.
WRONG = [
    (values("config.app", []), "config.app is empty: describe at least one application"),
    (app(token={"secret_env": "OTHER"}), "config.app[0].token.secret_env names the variable OTHER, which nothing brings: add it to secrets.env."),
    (app(token={"secret_file": "/etc/trunkline/secrets/idp/key"}), "config.app[0].token.secret_file is in the directory of the secret `idp`, which nothing brings: add it to secrets.files."),
    (app(listen=["127.0.0.1:3001"]), "config.app[0] (visits) listens on `127.0.0.1:3001`, where nobody outside of the pod reaches it"),
    (app(listen=["0.0.0.0"]), "config.app[0] (visits) listens on `0.0.0.0`: write an address with a port"),
    (app(listen=["0.0.0.0:9090"]), "which is the port of metrics or of the server API: take another."),
    (values("config.http.listen", ["0.0.0.0:1"]), "config.http.listen is the chart's own: set gateway.port."),
    (values("config.http.admin", "0.0.0.0:1"), "config.http.admin is the chart's own: set gateway.adminPort."),
    (values("config.api.listen", ["0.0.0.0:1"]), "config.api.listen is the chart's own: set gateway.apiPort."),
    (values("config.nats.replicas", 3), "config.nats.replicas is the chart's own: set natsClient.replicas."),
    (values("config.nats.servers", ["nats://x"]), "config.nats.servers is the chart's own: set natsClient.servers or nats.enabled."),
    (values("config.node.drain_s", 5), "config.node.drain_s is the chart's own: set gateway.drainSeconds."),
    (values("config.coordinator.admin", "0.0.0.0:1"), "config.coordinator.admin is the chart's own: set coordinator.adminPort."),
    (values("config.production", False), "config.production is the chart's own: set production."),
    (values("natsClient.servers", []), "No NATS: name its addresses in natsClient.servers, or set nats.enabled: true."),
    (values("nats.enabled", True), "natsClient.servers names a NATS of your own, and nats.enabled installs another"),
    (values("natsClient.login.kind", "token"), "natsClient.login.kind is `token`: name the Secret with the login in natsClient.login.secret."),
    (values("natsClient.login.secret", "x"), "natsClient.login.secret is set, but natsClient.login.kind is `none`"),
    (values("gateway.terminationGracePeriodSeconds", 40), "gateway.terminationGracePeriodSeconds is 40, so nodes would be killed while they drain: it must be at least 55"),
    (values("gateway.autoscaling", {"enabled": True, "targetCPUPercent": 0}), "gateway.autoscaling has nothing to go by: set targetConnections or targetCPUPercent."),
    (values("gateway.autoscaling", {"enabled": True, "maxReplicas": 2}), "gateway.autoscaling.maxReplicas is less than minReplicas."),
    (
        {"gateway": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}},
        "gateway.autoscaling.targetCPUPercent is a part of what is requested: set gateway.resources.requests.cpu.",
    ),
    (values("httpRoute.enabled", True), "httpRoute.parentRefs is empty: name the Gateway that the routes hang on."),
    (
        {**values("config.app", [{"name": name, "dialect": "diet", "token": {"secret_env": "VISITS_JWT_SECRET"}, "listen": [f"0.0.0.0:{port}"]} for name, port in [("a", 3001), ("b", 3002)]]), "ingress": {"enabled": True}},
        "Two applications with different ports would be at (any host)/socket.io: give them hosts or paths of their own",
    ),
    (values("service.externalTrafficPolicy", "Local"), "service.externalTrafficPolicy is for the type NodePort or LoadBalancer, and service.type is ClusterIP."),
    (values("service", {"type": "NodePort", "loadBalancerClass": "x"}), "service.loadBalancerClass is for the type LoadBalancer, and service.type is NodePort."),
    (values("routes", [{"paths": ["/"], "app": "talk"}]), "routes[0].app is `talk`, but no application has that name."),
    (values("metrics", {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}), "metrics.podMonitor and metrics.serviceMonitor would both scrape every pod"),
]

# The same of `bundled-nats`.
WRONG_NATS = [
    (values("nats.config.cluster.replicas", 1), "natsClient.replicas is 3, but NATS has 1 servers (nats.config.cluster.replicas)."),
    (values("nats.config.cluster.enabled", False), "natsClient.replicas is 3, but NATS has 1 servers"),
    (values("nats.namespaceOverride", "messaging"), "nats.namespaceOverride is set: NATS of this release is looked for, and guarded, in the release's namespace."),
    (values("nats.config.jetstream.enabled", False), "nats.config.jetstream.enabled is false: what is acknowledged is stored in JetStream."),
    (values("config.limits.max_payload_bytes", 8000000), "nats.config.merge.max_payload is 4194304, too little for limits.max_payload_bytes of 8000000"),
]

# (what is changed, the key that the schema's message names)
NOT_IN_THE_SCHEMA = [
    (values("replicas", 3), "replicas"),
    (values("gateway.replica", 3), "replica"),
    (values("gateway.replicas", "three"), "replicas"),
    (values("gateway.replicas", 0), "replicas"),
    (values("gateway.port", 70000), "port"),
    (values("gateway.bindAddress", "127.0.0.1"), "bindAddress"),
    (values("gateway.autoscaling.target", 1), "target"),
    (values("gateway.topologySpread.hostname", "Always"), "hostname"),
    (values("gateway.resources.request", {}), "request"),
    (values("coordinator.autoscaling", {}), "autoscaling"),
    (values("natsClient.replicas", 2), "replicas"),
    (values("natsClient.servers", ["http://nats:4222"]), "servers"),
    (values("natsClient.login.password", "hunter2"), "password"),
    (values("natsClient.login.kind", "password"), "kind"),
    (values("gateway.podLabels", {"app.kubernetes.io/component": "edge"}), "app.kubernetes.io/component"),
    (values("commonLabels", {"app.kubernetes.io/instance": "x"}), "app.kubernetes.io/instance"),
    (values("service.sessionAffinity", "ClientIP"), "sessionAffinity"),
    (values("service.type", "ExternalName"), "type"),
    (values("secrets.env", {"A": "plain"}), "A"),
    (values("secrets.env", {"A": {"secret": "s"}}), "key"),
    (values("secrets.env", {"A-B": {"secret": "s", "key": "k"}}), "A-B"),
    (values("secrets.files", {"A_B": {"secret": "s"}}), "A_B"),
    (values("routes", [{"paths": ["socket.io"], "app": "visits"}]), "paths"),
    (values("ingress.hosts", []), "hosts"),
    (values("image.digest", "latest"), "digest"),
    (values("securityContext.readOnlyRootFilesystem", False), "readOnlyRootFilesystem"),
    (values("securityContext.allowPrivilegeEscalation", True), "allowPrivilegeEscalation"),
    (values("podSecurityContext.runAsNonRoot", False), "runAsNonRoot"),
    (values("config.app", [{"dialect": "telehealth"}]), "name"),
    (values("config.app", [{"name": "Visits", "dialect": "telehealth"}]), "name"),
    (values("production", "yes"), "production"),
]


class Refusals(unittest.TestCase):
    def refused(self, given, path=None):
        with self.assertRaises(chart.Refused) as caught:
            charts.render(given, path=path)
        return str(caught.exception)

    def test_unsafe_combinations(self):
        for change, sentence in UNSAFE:
            with self.subTest(sentence=sentence):
                self.assertIn(sentence, self.refused(chart.merged(chart.values("minimal"), change)))

    def test_what_would_not_work(self):
        for case, wrong in [("minimal", WRONG), ("bundled-nats", WRONG_NATS)]:
            for change, sentence in wrong:
                with self.subTest(sentence=sentence):
                    self.assertIn(sentence, self.refused(chart.merged(chart.values(case), change)))

    def test_all_mistakes_are_told_at_once(self):
        change = {**app(token=None), "gateway": {"replicas": 1}, "coordinator": {"replicas": 1}}
        told = self.refused(chart.merged(chart.values("minimal"), change))
        for part in ["has no key", "gateway.replicas is 1", "coordinator.replicas is 1"]:
            self.assertIn(part, told)

    def test_a_nats_chart_that_was_not_fetched_is_told(self):
        bare = charts.path.parent / "bare"
        shutil.copytree(charts.path, bare, ignore=shutil.ignore_patterns("charts"))
        self.assertIn("run `helm dependency build`", self.refused(chart.values("bundled-nats"), bare))
        charts.render(chart.values("minimal"), path=bare)

    def test_the_schema(self):
        for change, key in NOT_IN_THE_SCHEMA:
            with self.subTest(change=change):
                told = self.refused(chart.merged(chart.values("minimal"), change))
                self.assertIn("schema", told)
                self.assertIn(key, told)

    def test_the_schema_and_the_values_have_the_same_keys(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())
        # Helm's own, for subcharts.
        del schema["properties"]["global"]
        self.assertEqual(list(unlike(schema, defaults, schema["definitions"], "")), [])

    def test_defaults_are_lint_clean_but_for_what_must_be_said(self):
        report = helm_python.lint(charts.path, strict=True)
        self.assertEqual(report["errors"], [])


# Sections whose keys are somebody else's, or the operator's own.
FOREIGN = {"/nats", "/config", "/podSecurityContext", "/securityContext"}

# Keys that are allowed and have no default.
WITHOUT_DEFAULT = {"/gateway/resources/claims", "/coordinator/resources/claims", "/httpRoute/timeouts/request", "/httpRoute/timeouts/backendRequest"}


def unlike(schema, defaults, definitions, at):
    """Keys that the schema or the values lack, and sections that take any key."""
    schema = definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    known = schema.get("properties")
    if at in FOREIGN or known is None or not isinstance(defaults, dict):
        return
    if schema.get("additionalProperties", True) is not False:
        yield f"{at} takes any key"
    for key in sorted(set(known) | set(defaults)):
        path = f"{at}/{key}"
        if key in known and key in defaults:
            yield from unlike(known[key], defaults[key], definitions, path)
        elif path not in WITHOUT_DEFAULT:
            yield path


if __name__ == "__main__":
    unittest.main()
