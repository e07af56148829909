"""docs/chart-values.md is current, and says something of every key of ours."""

import os
import unittest

import values_page

# Somebody else's keys, which their documentation explains.
FOREIGN = ("nats.", "podSecurityContext.", "securityContext.", "gateway.resources.", "coordinator.resources.")


class Page(unittest.TestCase):
    def test_it_is_current(self):
        text = values_page.page(values_page.VALUES.read_text())
        if os.environ.get("UPDATE"):
            values_page.PAGE.write_text(text)
        self.assertEqual(values_page.PAGE.read_text(), text, "make chart UPDATE=1")

    def test_every_key_is_explained(self):
        rows = [line.split(" | ") for line in values_page.PAGE.read_text().splitlines() if line.startswith("| `")]
        silent = [row[0] for row in rows if not row[-1].strip(" |") and not row[0].removeprefix("| `").startswith(FOREIGN)]
        self.assertEqual(silent, [])


if __name__ == "__main__":
    unittest.main()
