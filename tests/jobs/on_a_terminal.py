"""A program that starts a job from a terminal of its own, says its id, and waits until the terminal is closed."""

from __future__ import annotations

import os
import signal
import sys

from gpux import jobs

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell that detaches its programs has them ignore it, and so theirs
os.open(sys.argv[1], os.O_RDWR)  # leader of a session without one: it becomes the controlling terminal
print(jobs.start(["pull", *sys.argv[2:]], models=sys.argv[2:]).id, flush=True)
signal.pause()
