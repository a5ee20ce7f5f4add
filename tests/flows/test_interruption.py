"""Ctrl-C ends a command soon, whatever hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

HANGS = """
import time
from activarium.flows.interruption import end_soon_after_interruption
end_soon_after_interruption(lambda: print("interrupted", flush=True), grace={grace})
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("unwinding", flush=True)
    time.sleep({hangs})
"""


def interrupt(**settings):
    program = HANGS.format(**settings)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout.readline() == "ready\n"
        it.send_signal(signal.SIGINT)
        out, _ = it.communicate(timeout=50)
        return it.returncode, out.splitlines()


def test_interruption__ends_what_hangs():
    assert interrupt(grace=0.5, hangs=60) == (130, ["unwinding", "interrupted"])


def test_interruption__leaves_alone_what_ends():
    assert interrupt(grace=30, hangs=0) == (0, ["unwinding"])
