"""Processes forked from one that has imported gpux, so that each starts within milliseconds.

The folders and variables of the test are not those of that process: each child is given its environment.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["gpux.huggingface.manager", "gpux.pull.api"])


def set_environment(environment: Mapping[str, str]) -> None:
    """Replace all variables of this process."""
    os.environ.clear()
    os.environ.update(environment)


def pull_in_process(model: str, environment: Mapping[str, str]) -> str:
    """Pull a model in a child process: the folder of the stored variant."""
    from gpux import pull_model

    set_environment(environment)
    return str(pull_model(model).path)
