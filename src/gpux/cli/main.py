"""``gpux``: the group of commands, each imported when it is used, and the handling of all errors."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from gpux import __version__
from gpux.cli.failures import discard_stdout, open_what_is_closed, report_failure, report_output, report_usage
from gpux.errors import GpuxError

#: command -> the line that `gpux --help` shows
COMMANDS = {
    "pull": "Download, convert, prove and store models.",
    "jobs": "List, follow and cancel the jobs of `gpux pull --detach`.",
    "run": "Run a model on texts, pictures, sounds or the rows of a file.",
    "tasks": "List the tasks that can be run, and the options of each.",
    "chat": "Chat with a model.",
    "conversations": "List, show, export and delete stored conversations, show usage.",
    "serve": "Serve models over HTTP, in the APIs of OpenAI and others.",
    "ps": "Show the loaded models of running servers.",
    "load": "Load a model into the running server.",
    "unload": "Unload models of the running server.",
    "stop": "Stop the running server.",
    "keys": "Create, list and revoke keys of the server.",
    "config": "Show, check and restore the configuration of the chat providers.",
    "bench": "Measure how fast a server answers.",
    "search": "Search the Hub for models.",
    "info": "Show metadata of a model.",
    "import": "Add models to the catalog: their metadata, without weights.",
    "catalog": "List, show, export and refresh the catalog.",
    "revisions": "List a model's branches, tags and pull requests.",
    "check": "Check whether models can be downloaded, with and without the token.",
    "list": "List the models on this machine.",
    "outdated": "List stored models that are behind their branch.",
    "update": "Pull outdated models again.",
    "verify": "Check stored files against their hashes; repair them.",
    "du": "Show disk usage.",
    "pin": "Protect stored models from eviction and pruning.",
    "unpin": "Allow stored models to be evicted and pruned again.",
    "rm": "Remove stored models, and their source files with --source.",
    "prune": "Remove superseded and damaged variants.",
    "convert": "Convert a model's original weights, even if it ships ONNX.",
    "doctor": "Check which devices and tools of this machine gpux can use.",
    "auth": "Log in to the Hub, log out, show the account in use.",
    "toolchain": "Manage the environments that converters run in.",
    "completion": "Print the shell's completion script.",
}

#: command -> module of gpux.cli that defines ``<command>_command``, where that is not the command's own name
MODULES = {
    "convert": "pull",
    "import": "catalog",
    "revisions": "hub",
    "check": "hub",
    "list": "storage",
    "du": "storage",
    "pin": "storage",
    "unpin": "storage",
    "rm": "storage",
    "prune": "storage",
    "outdated": "update",
    "ps": "servers",
    "load": "servers",
    "unload": "servers",
    "stop": "servers",
}

#: British spelling of commands and options -> the American one that help shows
SPELLINGS = {"catalogue": "catalog", "licence": "license"}

EPILOG = """\b
Exit codes: 0 done, 2 wrong usage, 3 not found, 4 no access, 5 Hub or network,
6 disk or store, 7 unsupported, 8 conversion failed, 9 proof failed, 10 run
failed, 130 interrupted, 1 anything else.
"""


@contextmanager
def _closed_pipe_is_success() -> Iterator[None]:
    """Exit with 0 where the reader of a pipe closes it, as in ``gpux list | head -1``; click would exit with 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        raise click.exceptions.Exit(0) from None


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the arguments; ``--help`` prints here."""
        with _closed_pipe_is_success():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _closed_pipe_is_success():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"gpux.cli.{MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for one that does not exist."""
        name = SPELLINGS.get(args[0], args[0])
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            suggestion = f" Did you mean `gpux {near[0]}`?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{suggestion}", ctx)
        return super().resolve_command(ctx, [name, *args[1:]])


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: SPELLINGS.get(name, name),
    },
)
@click.version_option(__version__, prog_name="gpux")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--quiet", "-q", is_flag=True, help="Print only data and errors.")
@click.pass_context
def gpux(ctx: click.Context, debug: bool, quiet: bool) -> None:
    """Pull any model of the Hugging Face Hub, get ONNX proven equal to the original, run it without PyTorch."""
    ctx.obj = {**(ctx.obj or {}), "debug": debug, "quiet": quiet}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line; the exit code is the error's own."""
    open_what_is_closed()
    if "_GPUX_COMPLETE" in os.environ:  # the shell requests completions
        from gpux.cli.references import install_bash_completion

        install_bash_completion()
    try:
        outcome: Any = gpux.main(args, prog_name="gpux", standalone_mode=False, obj={"arguments": args})
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as exc:
        return report_usage(exc, args)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (GpuxError, KeyboardInterrupt, click.Abort) as exc:
        return report_failure(exc, args)
    except OSError as exc:
        return report_output(exc, args)
