"""Helm for tests: reads a list of what to do as JSON, prints a list of what came of each as JSON.

    {"do": "install", "kubeconfig": …, "namespace": …, "chart": …, "name": …, "values": {…}}

is answered by {"ok": …} or {"error": "…"}. Any other end is a bug of this program. Helm's own library does the work, so what
it says is what `helm` would say.
"""

import json
import sys

import helm_python
from helm_python import Chart, Config
from helm_python import chart as charts

SECONDS = 300


def lint(ask):
    report = charts.lint(ask["chart"], ask["values"], strict=True, kube_version=ask.get("kube"))
    # 1 is a remark, such as that there is no icon.
    return [line for line in report["messages"] if line["severity"] > 1] + report["errors"]


def render(ask):
    with Chart.load(ask["chart"]) as chart:
        return chart.render(ask["values"], name=ask["name"], namespace=ask["namespace"])


def package(ask):
    return charts.package(ask["chart"], destination=ask["into"])


def install(config, ask):
    return config.install(ask["chart"], ask["name"], ask["values"], create_namespace=True, timeout=SECONDS)


def upgrade(config, ask):
    return config.upgrade(ask["chart"], ask["name"], ask["values"], reset_values=True, timeout=SECONDS)


def rollback(config, ask):
    return config.rollback(ask["name"], version=ask["revision"], timeout=SECONDS)


def uninstall(config, ask):
    return config.uninstall(ask["name"], timeout=SECONDS)


def test(config, ask):
    return config.test(ask["name"], timeout=SECONDS)


OFFLINE = {action.__name__: action for action in (lint, render, package)}
ONLINE = {action.__name__: action for action in (install, upgrade, rollback, uninstall, test)}


def answer(ask):
    try:
        if ask["do"] in OFFLINE:
            return {"ok": OFFLINE[ask["do"]](ask)}
        with Config(kubeconfig_path=ask["kubeconfig"], namespace=ask["namespace"]) as config:
            return {"ok": ONLINE[ask["do"]](config, ask)}
    except helm_python.HelmError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump([answer(ask) for ask in json.load(sys.stdin)], sys.stdout)
