"""A program that starts a job from its own terminal, prints the id, and waits until the terminal is closed."""

from __future__ import annotations

import os
import signal
import sys

from gpux import jobs

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell may start its programs with the signal ignored
os.open(sys.argv[1], os.O_RDWR)  # leader of a session without one: it becomes the controlling terminal
print(jobs.start(["pull", *sys.argv[2:]], models=sys.argv[2:]).id, flush=True)
signal.pause()
