"""docs/reliability.md from the stored results of the campaigns, and from how many cases the tests beside them have.

    python benchmarks/reliability.py
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reliability.md"
TESTS = {
    "tests/test_damage.py": "run directories with a file cut, emptied, deleted or filled with something else: "
    "`kka report` and `--resume` end right or with one message, and what it says repairs them",
    "tests/test_servers.py": "replies of a server of OpenAI's protocol, on a real one: refusals, redirects, odd "
    "bodies, slow ones; no key is ever shown",
    "tests/test_answers.py": "answers of chat models, and what is kept of each",
    "tests/test_layout.py": "folders of photos, and what is normal, anomalous and a mask in them",
    "tests/test_options.py": "options with values without sense",
}
HEAD = """# What was tried to break it

A fault is a traceback, a hang (60 s), more than 12 GB of memory, a wrong label that nobody was told of, or a run that
ends otherwise than if it had never been killed. The campaigns are seeded and stay: each command below does one again.
"""


def kills() -> list[str]:
    """A row for each command that was killed."""
    stored = json.loads((HERE / "results" / "reliability_kills.json").read_text())
    lines = [
        "## Kills at random moments", "", f"`{stored['command']}`", "",
        "SIGKILL at a random moment of the command's time; it is given again until it ends.", "",
        "| command | kills | ends | not as without kills | hidden folders left |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for job in dict.fromkeys(row["job"] for row in stored["rows"]):
        mine = [row for row in stored["rows"] if row["job"] == job]
        unlike = sum(not (row["alike"] and row["clean"]) for row in mine)
        left = sum(len(row["left_behind"]) for row in mine)
        lines.append(f"| {job} | {sum(row['kills'] for row in mine)} | {len(mine)} | {unlike} | {left} |")
    return lines


def inputs() -> list[str]:
    """A row for each kind of bad input."""
    stored = json.loads((HERE / "results" / "reliability_inputs.json").read_text())
    lines = [
        "## Bad inputs", "", f"`{stored['command']}`", "",
        "labels: folders whose pictures are coloured by their truth. options: values without sense. files: pictures, "
        "captions, detectors, cards and results that are damaged.", "",
        "| kind | inputs | ended well | refused with a message | faults |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for kind, number in Counter(row["kind"] for row in stored["rows"]).items():
        mine = [row for row in stored["rows"] if row["kind"] == kind]
        faults = [row for row in mine if row["fault"]]
        well = sum(row["exit"] == 0 for row in mine if not row["fault"])
        lines.append(f"| {kind} | {number} | {well} | {number - well - len(faults)} | {len(faults)} |")
    return [*lines, "", *(f"- {row['input']}: {row['fault']}" for row in stored["rows"] if row["fault"])]


def tests() -> list[str]:
    """How many cases the tests have."""
    lines = ["## Tests of the same kind", "", "| file | cases | |", "|---|---:|---|"]
    for file, what in TESTS.items():
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", file]
        listed = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=True).stdout
        lines.append(f"| `{file}` | {sum('::' in line for line in listed.splitlines())} | {what} |")
    return lines


def main() -> None:
    parts = (kills(), inputs(), tests())
    PAGE.write_text(HEAD + "\n" + "\n\n".join("\n".join(part).rstrip() for part in parts) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
