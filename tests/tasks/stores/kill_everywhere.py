"""A process that is killed before each of its file operations in turn, and what is then found.

Run as a program: it forks a child per operation, which no test's threads disturb. Prints a JSON list
of [operation, what was found, what is left].
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from activarium.schemas.atlas import Atlas
from activarium.tasks.stores.set_replacing import replacing_set, settle_tables
from activarium.tasks.stores.table_check import table_findings
from activarium.tasks.stores.table_reading import set_problems, table_problems
from activarium.tasks.stores.table_sets import analysis_set

FILES = ("units", "layers", "images")
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "open", "fcntl.flock"}


def write(atlas, value, names=FILES):
    """Write a set whose every file holds the value."""
    found = analysis_set(atlas, "toy")
    with replacing_set(found, inputs=value, command="activarium analyse toy") as staged:
        for name in names:
            path = atlas.tables / name / "recording=toy" / f"{name}.parquet"
            staged.path(path).write_text(f"{name} {value}")


def kill_before(number):
    """Kill this process before its file operation of that number."""
    left = [number]

    def hook(event, arguments):
        if event not in OPERATIONS or (event == "open" and not _writes(arguments)):
            return
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _writes(arguments):
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def forked(work):
    """Return the exit status of work in a child."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def contents(atlas):
    """Return what the tables hold: the value of each."""
    files = sorted(atlas.tables.glob("*/recording=toy/*.parquet"))
    return {file.stem: file.read_text().split()[1] for file in files}


def everything(atlas):
    """Return the bytes of every file of an atlas but locks."""
    files = [file for file in sorted(atlas.root.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(atlas.root)): file.read_bytes()
        for file in files
        if file.suffix != ".lock"
    }


def look(atlas):
    """Return what readers say of an atlas in which a process was killed."""
    mixed = sorted(set(contents(atlas).values()))
    said = [*set_problems(atlas, ["toy"]).values()]
    files = sorted(atlas.tables.glob("*/recording=toy/*.parquet"))
    said += table_problems(atlas, files).values()
    said += [each.problem for each in table_findings(atlas, "toy") if each.problem]
    left = [str(file) for file in atlas.root.rglob("*") if ".partial" in file.name]
    left += [str(file) for file in atlas.staged.rglob("*.json")]
    return mixed, contents(atlas), said, left


def main(folder, second_names):
    """Kill a replacement of `old` by `new` everywhere."""
    kept, new = Atlas(folder / "kept"), Atlas(folder / "new")
    write(kept, "old")
    write(new, "old")
    write(new, "new", second_names)
    out, number, status = [], 0, 1
    while status:
        atlas = Atlas(folder / f"{number:03d}")
        shutil.copytree(kept.root, atlas.root)

        def replace(atlas=atlas, number=number):
            kill_before(number)
            write(atlas, "new", second_names)

        def settle(atlas=atlas, number=number):
            kill_before(number // 2)
            settle_tables(atlas)

        status = forked(replace)
        if number % 3 == 0:
            forked(settle)  # who finishes may be killed too
        mixed, found, said, left = look(atlas)
        write(atlas, "new", second_names)
        same = everything(atlas) == everything(new)
        out.append([number, mixed, found, said, left, same])
        number += 1
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","))
