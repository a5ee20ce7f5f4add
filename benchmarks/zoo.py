"""Every architecture of torchvision and timm, untrained: recorded rightly, refused, or wrong.

Writes what came of each to a file of JSON lines, which is gone on with when it is there (delete it to
begin anew, as after a change of the capture), and the table of what fails into docs/models.md.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.models._registry import _model_to_module

from activarium.tasks.models.torchvision_models import torchvision_names

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- zoo -->", "<!-- /zoo -->"


def main() -> None:
    """Try what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("zoo.jsonl"))
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--families", action="store_true", help="one of each family of timm first")
    parser.add_argument("--most-millions", type=float, default=1e9, help="parameters at most")
    parser.add_argument("--seconds", type=float, default=600, help="for one architecture, at most")
    parser.add_argument("--minutes", type=float, default=1e9, help="for all of this call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write the table of docs/models.md")
    arguments = parser.parse_args()
    done = _read(arguments.results)
    names = [name for name in _names(first=arguments.families) if arguments.only in name]
    _run([name for name in names if name not in done], arguments)
    outcomes = list(_read(arguments.results).values())
    print(_summary(outcomes))
    if arguments.table:
        text = PAGE.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(
            f"{before}{BEGIN}\n{_table(outcomes, len(_names(first=False)))}{END}{after}"
        )


def _names(*, first: bool) -> list[str]:
    """Return all architectures; those of one family one after the other, or one of each first."""
    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        families.setdefault(_model_to_module[name], []).append(f"timm:{name}")
    ordered = [sorted(family, key=len) for family in families.values()]
    ours = [f"torchvision:{name}" for name in torchvision_names()]
    if not first:
        return [*ours, *(name for family in ordered for name in family)]
    longest = max(map(len, ordered))
    turns = [name for at in range(longest) for family in ordered for name in family[at : at + 1]]
    return [*turns[: len(ordered)], *ours, *turns[len(ordered) :]]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["name"]: row for row in rows}


def _run(names: list[str], arguments: argparse.Namespace) -> None:
    """Try one architecture after the other in a process that is begun anew where one breaks it."""
    process: subprocess.Popen[str] | None = None
    until = datetime.now(UTC).timestamp() + 60 * arguments.minutes
    for name in names:
        if datetime.now(UTC).timestamp() > until:
            break
        if _millions(name) > arguments.most_millions:
            continue
        if process is None or process.poll() is not None:
            process = _start(arguments.threads)
        row = _ask(process, name, arguments.seconds)
        if row["result"] == "wrong" and row["reason"].startswith("process"):
            process.kill()
            process = None
        with arguments.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row["result"], name, row["seconds"], row["reason"], flush=True)
    if process is not None:
        process.kill()


def _start(threads: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("zoo_trial.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _ask(process: subprocess.Popen[str], name: str, seconds: float) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: answers.put(process.stdout.readline()), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = ""
    failed = {"name": name, "result": "wrong", "reason": "process ended or took too long"}
    return json.loads(answer) if answer else {**failed, "seconds": seconds, "left_out_usual": []}


def _millions(name: str) -> float:
    """Return the parameters of an architecture, without making its weights."""
    library, _, short = name.partition(":")
    if library == "torchvision":
        weights = torchvision.models.get_model_weights(short)
        return max((each.meta["num_params"] for each in weights), default=0) / 1e6
    try:
        with torch.device("meta"):
            model = timm.create_model(short)
    except Exception:  # noqa: BLE001 - then its own trial tells
        return 0.0
    return sum(each.numel() for each in model.parameters()) / 1e6


def _summary(outcomes: list[dict[str, Any]]) -> str:
    counted = Counter(outcome["result"] for outcome in outcomes)
    share = counted["right"] / max(1, len(outcomes))
    return f"{len(outcomes)} architectures: {dict(counted)}, {share:.1%} right"


def _table(outcomes: list[dict[str, Any]], everything: int) -> str:
    """Return what docs/models.md says."""
    counted = Counter(outcome["result"] for outcome in outcomes)
    engines = Counter(row["engine"] for row in outcomes if row["result"] == "right")
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "timm")
    )
    left = [row for row in outcomes if row["left_out_usual"]]
    said = (
        f"{len(outcomes):,} of {everything:,} architectures tried on {datetime.now(UTC):%Y-%m-%d} "
        f"({versions}): {counted['right']:,} right, {counted['refused']} refused in one line, "
        f"{counted['wrong']} wrong; {engines['traced']:,} by the traced graph, "
        f"{engines['hooks']:,} by hooks. A convolution, linear layer or attention is left out in {len(left)}."
    )
    rows = [
        f"| {row['name']} | {row['result']}: {row['reason'].replace('|', '/')} |"
        for row in sorted(outcomes, key=lambda row: row["name"])
        if row["result"] != "right"
    ]
    table = ["", "| architecture | what comes |", "|---|---|", *rows] if rows else []
    lines = [said, *table, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
