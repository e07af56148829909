"""Processes as the pods would run them: arguments, environment, files and configuration of the rendered objects, against a real nats-server.

Only addresses differ: loopback and free ports, one NATS server instead of three.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

import chart

# Far more than a slow machine needs; nothing waits so long unless something is broken.
PATIENCE_S = 60

# Cases that show different things at start: keys of all kinds, secrets of coordinators, the server API, IPv6 listeners.
CASES = ["bundled-nats", "five-applications", "turn-and-api", "load-balancer"]


class Process:
    """A child that is stopped by its id."""

    def __init__(self, arguments, environment=None):
        self.child = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.child.stdout.fileno(), False)
        self.text = ""

    def wait_for(self, pattern):
        """The match of `pattern` in what the child has said."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, deadline - time.monotonic()))
            if not (piece := self.child.stdout.read() if ready else None):
                self.child.kill()
                raise AssertionError(f"{self.child.args[:2]} did not say {pattern!r} but:\n{self.text}")
            self.text += piece.decode()
        return found

    def stop(self):
        """Its status after SIGTERM."""
        self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(PATIENCE_S)
        finally:
            self.child.kill()
            self.child.stdout.close()


def start_nats(directory):
    # `make nats` fetches one where PATH has none that is new enough.
    fetched = chart.ROOT / ".tools" / "bin" / "nats-server"
    server = fetched if fetched.exists() else shutil.which("nats-server")
    return Process([server, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", directory])


def start_pod(machine, nats):
    """The container's process, on loopback."""
    text = machine.config.read_text()
    text = re.sub(r'"(0\.0\.0\.0|\[::\]):\d+"', '"127.0.0.1:0"', text)
    machine.config.write_text(text)
    arguments = [str(machine.config) if argument.startswith("/etc/") else argument for argument in machine.container["args"]]
    return Process([chart.TRUNKLINE, *arguments, "--nats", nats, "--set", "nats.replicas=1"], machine.environment)


class Serves(unittest.TestCase):
    def setUp(self):
        self.charts = chart.Charts()
        self.addCleanup(self.charts.close)
        directory = tempfile.TemporaryDirectory(prefix="trunkline-nats-")
        self.addCleanup(directory.cleanup)
        nats = start_nats(directory.name)
        self.addCleanup(nats.stop)
        self.url = "nats://" + nats.wait_for(r"client connections on (\S+)$")[1]
        nats.wait_for("Server is ready")

    def test_pods_get_ready_and_leave_in_order(self):
        for case in CASES:
            objects = self.charts.render(chart.values(case))
            for role in ("coordinator", "gateway"):
                with self.subTest(case=case, role=role), chart.Machine(objects, role) as machine:
                    process = start_pod(machine, self.url)
                    process.wait_for("^ready$")
                    self.probe(process, machine.container)
                    if role == "gateway":
                        self.shake_hands(process, case)
                    self.assertEqual(process.stop(), 0, process.text)

    def probe(self, process, container):
        """The kubelet's questions are answered."""
        address = process.wait_for(r'"message":"metrics and health","addr":"([^"]+)"')[1]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(container[kind]["httpGet"]["port"], "admin")
            self.ask(f"http://{address}{container[kind]['httpGet']['path']}", "kubelet")

    def shake_hands(self, process, case):
        """A session is opened and closed at every application, under its own host and path."""
        for app in chart.values(case)["config"]["app"]:
            address = process.wait_for(rf"^listening {app['name']} (\S+)$")[1]
            url = f"http://{address}{app.get('path', '/socket.io/')}?EIO=4&transport=polling"
            host = app.get("hosts", ["any.example"])[0]
            opened = self.ask(url, host)
            self.assertTrue(opened.startswith('0{"sid":'), opened)
            self.assertEqual(self.ask(f"{url}&sid={json.loads(opened[1:])['sid']}", host, b"1"), "ok")

    @staticmethod
    def ask(url, host, body=None):
        request = urllib.request.Request(url, body, headers={"Host": host, "Content-Type": "text/plain;charset=UTF-8"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.read().decode()


if __name__ == "__main__":
    unittest.main()
