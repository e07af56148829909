"""The examples of docs/kubernetes.md: each is rendered over the first, and what comes out is accepted by the binary."""

import re
import unittest

import yaml

import chart

PAGE = chart.ROOT / "docs" / "kubernetes.md"
EXAMPLE = re.compile(r"^```yaml values\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page(unittest.TestCase):
    def test_examples(self):
        first, *others = [yaml.safe_load(text) for text in EXAMPLE.findall(PAGE.read_text())]
        charts = chart.Charts()
        self.addCleanup(charts.close)
        for example in [{}, *others]:
            with self.subTest(example=example):
                with chart.Machine(charts.render(chart.merged(first, example))) as machine:
                    checked = machine.check_config()
                    self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_what_is_named_is_there(self):
        text = PAGE.read_text()
        defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())
        for path in re.findall(r"`((?:gateway|coordinator|natsClient|networkPolicy|service|ingress|metrics|nats)\.[A-Za-z.]+)[`:]", text):
            with self.subTest(path=path):
                value = defaults
                for name in path.split("."):
                    self.assertIn(name, value)
                    value = value[name]


if __name__ == "__main__":
    unittest.main()
