"""The ``convert`` command with mobius: a second process builds the graph, then this one runs the original.

Two processes, one after the other, because each holds the weights once: the memory of the first is free when the second
maps them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpux.convert.answer_case import merged, write_answers
from gpux.convert.worker.tokenizer.work import Job, TokenizerWork
from gpux.system.launch import launch_command
from gpux.system.worker_protocol import Events, Refused

PROGRAM = "gpux.convert.worker.mobius"
TASK = "text-generation"


def convert(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Write the graph, the tokenizer and the reference cases; returns the values of the ``result`` event.

    The task must be ``text-generation``, the precision fp32.

    Raises:
        Refused: mobius cannot build the model, or the original cannot be run.
    """
    if request.get("precision", "fp32") != "fp32":
        raise Refused("conversion", f"mobius writes fp32 only, not {request['precision']}")
    if request["task"] != TASK:
        raise Refused("unsupported_task", f"mobius converts for {TASK} only, not for {request['task']}")
    tokenizer = TokenizerWork(Job(request["source"], request["output"], TASK), events)
    built = _in_own_process({**request, "command": "graph"}, events)
    events.stage("reference", "Running the original")
    answered = _run_original(request, tokenizer)
    return {
        "graphs": {"model": built["graph"]},
        "call_spec": _bounded(answered["call_spec"], built["rows"]),
        "thresholds": answered.get("thresholds", []),
        "small_graphs": answered.get("small_graphs", {}),
        "versions": answered["versions"],
        "peak_rss": max(filter(None, (built["peak_rss"], answered["peak_rss"])), default=None),
    }


def write_graph(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """The ``graph`` command: build the graph and save it.

    Returns ``graph``, ``rows`` (of the smallest table of rotary positions; None without one) and ``peak_rss``.
    """
    from gpux.convert.worker.common.environment import peak_rss
    from gpux.convert.worker.mobius.build import GRAPH, build, build_gguf
    from gpux.convert.worker.mobius.checkpoint import ggufs, read_config

    source, output = Path(request["source"]), Path(request["output"])
    config, files = read_config(source), ggufs(source)
    events.stage("export", "Writing ONNX")
    rows = build_gguf(files[0], config, output) if files else build(source, config, output)
    return {"graph": GRAPH, "rows": min(rows.values(), default=None), "peak_rss": peak_rss()}


def _in_own_process(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Run a command of this program in a new process, and pass its stages and warnings on.

    Raises:
        Refused: the failure of the process, or ``worker_crashed``.
    """
    last: dict[str, Any] = {}
    command = launch_command(sys.executable, PROGRAM)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for last in _events(process, request):
            if last["event"] in ("stage", "warning"):
                events.send(**last)
        process.wait()  # before its standard input is closed, which would end it at once
    if last.get("event") == "failure":
        raise Refused(last["code"], last["message"], last.get("hint"))
    if last.get("event") != "result" or process.returncode != 0:
        hint = "The system kills processes when memory runs out: close other programs, or use a larger machine."
        killed = process.returncode == -9
        message = f"the process that builds the graph ended with {process.returncode}"
        raise Refused("worker_crashed", message, hint if killed else None)
    return last


def _events(process: subprocess.Popen[bytes], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The process's events. Its standard input stays open: when this process ends, it closes and the other ends too."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    for line in process.stdout:
        yield json.loads(line)


def _run_original(request: dict[str, Any], tokenizer: TokenizerWork) -> dict[str, Any]:
    """Write the reference cases and answers; the cases' findings, and the versions."""
    from gpux.convert.worker.common.environment import peak_rss, versions
    from gpux.convert.worker.common.graphs import Exported
    from gpux.convert.worker.mobius.checkpoint import Original
    from gpux.convert.worker.reference.answers import ReferenceAnswers
    from gpux.convert.worker.reference.write import write_reference

    source, output = Path(request["source"]), Path(request["output"])
    tokens = tokenizer.finish()
    answers = ReferenceAnswers(source, TASK, tokenizer=tokenizer.for_answers())
    original = Original(source)
    exported = Exported(f"{TASK}-with-past", {"model": output / "model.onnx"}, original.model_class)
    folder, seed = Path(request["reference"]), int(request.get("seed", 0))
    wanted, export = bool(request.get("answers", True)), _exporter(exported.model_class)
    answered = write_reference(original.load, exported, folder, seed, export, answers.ask if wanted else None)
    if wanted:
        write_answers(merged([tokens, answers.found]), folder)
    return {**answered, "versions": versions(), "peak_rss": peak_rss()}


def _exporter(model_class: type) -> Callable[[Any, Path], Any]:
    """A function that writes the graph of a small model that is in memory."""

    def export(model: Any, folder: Path) -> Any:
        from gpux.convert.worker.common.graphs import Exported
        from gpux.convert.worker.mobius.build import GRAPH, build

        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gpux-small-") as saved:
            model.save_pretrained(saved)
            build(Path(saved), model.config, folder)
        return Exported(f"{TASK}-with-past", {"model": folder / GRAPH}, model_class)

    return export


def _bounded(call_spec: dict[str, Any], rows: int | None) -> dict[str, Any]:
    """Limit positions to the graph's table of rotary positions: GroupQueryAttention does not check its bounds."""
    if rows is None:
        return call_spec
    rows = min(rows, call_spec.get("max_length") or rows)
    limits = {graph: dict(inputs) for graph, inputs in call_spec.get("limits", {}).items()}
    inputs = limits.setdefault("model", {})
    for name in ("input_ids", "attention_mask"):
        axes = {str(axis): size for axis, size in inputs.get(name, {}).items()}
        inputs[name] = {**axes, "1": min(rows, axes.get("1", rows))}
    return {**call_spec, "max_length": rows, "limits": limits}
