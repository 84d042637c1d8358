"""How busy `prepare` keeps the processor; prints one JSON object.

    python benchmarks/prepare.py [--set birds|flowers] [--individuals 8] [--captions 10] [--jobs 2]

A built-in set is drawn, spoken and packed in a new process. `busy` is the processor time, of the process and all that
it starts, over the wall-clock time and the cores; only on a machine that does nothing else is it what `prepare` could
do. Where other programs want the same cores, judge by `wanted`: it counts the time that the processes waited for a core
(/proc/PID/schedstat) like the time they had one, and so still falls where one of them had nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CODE = """
import sys
from s2igan.corpora.builtin.drawn import prepare
from s2igan.corpora.registry import drawn_set
if __name__ == "__main__":
    name, out, classes, individuals, captions, jobs = sys.argv[1:]
    prepare(drawn_set(name), out, int(classes), individuals=int(individuals), captions=int(captions), jobs=int(jobs))
"""


def threads_below(process: int) -> Iterator[Path]:
    """Every thread of a process and of all that it started."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        yield thread
        for child in (thread / "children").read_text().split():
            yield from threads_below(int(child))


def wanted_seconds(process: subprocess.Popen[bytes]) -> float:
    """How long its threads, until it ends, ran on a core or waited for one."""
    seconds: dict[Path, float] = {}
    while process.poll() is None:
        with contextlib.suppress(OSError):  # a thread that has just ended
            for thread in threads_below(process.pid):
                running, waiting, _ = (thread / "schedstat").read_text().split()
                seconds[thread] = (int(running) + int(waiting)) / 1e9
        time.sleep(0.1)
    return sum(seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("birds", "flowers"), default="birds")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--individuals", type=int, default=8)
    parser.add_argument("--captions", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = f"{folder}/prepare.py"
        with open(script, "w") as file:
            file.write(CODE)
        numbers = [options.classes, options.individuals, options.captions, options.jobs]
        started = time.perf_counter()
        command = [sys.executable, script, options.set, f"{folder}/out", *map(str, numbers)]
        with subprocess.Popen(command) as process:
            wanted = wanted_seconds(process)
        if process.returncode:
            sys.exit(process.returncode)
        wall = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = usage.ru_utime + usage.ru_stime
    result = {
        "set": options.set,
        "utterances": options.classes * options.individuals * options.captions,
        "jobs": options.jobs,
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(ours, 1),
        "busy": round(ours / (wall * options.jobs), 3),
        "wanted": round(wanted / (wall * options.jobs), 3),
        "load_of_the_machine": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
