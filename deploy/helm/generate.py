#!/usr/bin/env python3
"""Rewrites what is derived in the chart: its copy of the CRD, and the table of values in its README.

The table is made of values.yaml, where each value has a comment that begins with "# --". A value without one is an error, so
that none is forgotten. Needs nothing but Python.
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).parent / "appcode-operator"
CRD = CHART.parents[2] / "crds" / "appcoderotations.yaml"
BEGIN = "<!-- values: written by `make generate` -->"
END = "<!-- end of values -->"
KEY = re.compile(r"^(\s*)([A-Za-z]+):\s*(.*)$")


def rows(lines):
    """Name, default and meaning of each value that has a comment; what is indented below one is its default."""
    parents, comment, number = [], [], 0
    while number < len(lines):
        line = lines[number]
        number += 1
        text = line.strip()
        if text.startswith("#"):
            if text.startswith("# --"):
                comment = [text[4:].strip()]
            elif comment:
                comment.append(text[1:].strip())
            continue
        if not text:
            comment = []
            continue
        match = KEY.match(line)
        if not match:
            sys.exit(f"values.yaml:{number}: neither a comment nor a value: {line}")
        depth, name, value = len(match[1]) // 2, match[2], match[3]
        parents = parents[:depth] + [name]
        if not comment:
            if value:
                sys.exit(f"values.yaml:{number}: {'.'.join(parents)} has no comment that begins with '# --'")
            continue
        if not value:
            below = []
            while number < len(lines) and lines[number].startswith("  " * (depth + 1)):
                below.append(lines[number][2 * (depth + 1) :])
                number += 1
            value = inline(below)
        yield ".".join(parents), value, " ".join(comment)
        comment = []


def inline(below):
    """A nested default in one line, as far as a table needs it."""
    if below[0].startswith("-"):
        return "see `values.yaml`"
    depth = len(below[0]) - len(below[0].lstrip())
    items = []
    for line in below:
        if len(line) - len(line.lstrip()) == depth:
            items.append([line.strip()])
        else:
            items[-1].append(line[depth:])
    return "{" + ", ".join(f"{item[0]} {inline(item[1:])}" if item[1:] else item[0] for item in items) + "}"


def table():
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    yield "| value | default | what it does |"
    yield "|---|---|---|"
    for name, value, meaning in rows(lines):
        default = value if value.startswith("see") else f"`{value}`"
        cells = (cell.replace("|", "\\|") for cell in (f"`{name}`", default, meaning))
        yield "| " + " | ".join(cells) + " |"


def main():
    (CHART / "files").mkdir(exist_ok=True)
    (CHART / "files" / CRD.name).write_bytes(CRD.read_bytes())
    readme = CHART / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(before + BEGIN + "\n\n" + "\n".join(table()) + "\n\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
