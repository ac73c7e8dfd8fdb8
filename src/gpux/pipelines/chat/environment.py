"""The jinja2 environment of chat templates: sandboxed, with limits, and with the extras that published templates use.

The extras are those of transformers' ``utils/chat_template_utils.py``: ``raise_exception``, ``strftime_now``, a
``tojson`` that does not escape HTML, ``{% break %}`` and ``{% continue %}``, and ``{% generation %}`` around an answer.
A template is downloaded and untrusted: loop iterations, products and lengths of text are limited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from gpux.errors import ChatTemplateError

LONGEST = 32_000_000  #: limit of characters of a text, or items of a list
ITERATIONS = 2_000_000  #: limit of all loops of one rendering; a long chat needs thousands
_LARGEST = 4096  #: bits of a power
_FILE = "<chat template>"
_PER_ITERATION, _PER_JOIN = "loop iteration", "joined text"  #: filters; no template can write names with a space
#: what a template's code can raise besides jinja2's errors
_FAILURES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    SyntaxError,
)
_left: ContextVar[list[int]] = ContextVar("iterations left")


class _Refusal(jinja2.TemplateError):
    """A template called ``raise_exception``."""


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Render a template with variables, which must be plain JSON values.

    Raises:
        ChatTemplateError: the template is broken, raised an exception of its own, failed, or exceeded a limit.
    """
    template = _compiled(source)
    _left.set([ITERATIONS])
    pieces, size = [], 0
    try:
        for piece in template.generate(dict(variables)):
            pieces.append(piece)
            size = _bounded(size + len(piece))
    except _Refusal as exc:
        raise ChatTemplateError(
            f"the chat template refuses these messages: {exc.message}",
            hint="Change the messages accordingly, or give chat_template=.",
        ) from exc
    except SecurityError as exc:
        raise _error(f"is not allowed to do this: {exc.message}", _line(exc)) from exc
    except jinja2.UndefinedError as exc:
        raise _error(f"needs a missing value: {exc.message}", _line(exc)) from exc
    except jinja2.TemplateError as exc:
        raise _error(f"failed: {exc.message}", _line(exc)) from exc
    except _FAILURES as exc:
        raise _error(f"failed: {_words(exc)}", _line(exc)) from exc
    return "".join(pieces)


@lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    try:
        tree = _Bounds().visit(_ENVIRONMENT.parse(source))
        code = _ENVIRONMENT.compile(tree, filename=_FILE)
        return jinja2.Template.from_code(_ENVIRONMENT, code, dict(_ENVIRONMENT.globals))
    except jinja2.TemplateSyntaxError as exc:
        raise _error(f"is broken: {exc.message}", exc.lineno) from exc
    except jinja2.TemplateError as exc:
        raise _error(f"is broken: {exc.message}", None) from exc
    except _FAILURES as exc:  # more nested loops than Python can compile
        raise _error(f"is broken: {_words(exc)}", None) from exc


def _error(what: str, line: int | None) -> ChatTemplateError:
    place = "" if line is None else f" at line {line}"
    return ChatTemplateError(
        f"the chat template{place} {what}",
        hint="Give another template with chat_template=, or use a plain prompt.",
        line=line,
    )


def _words(exc: BaseException) -> str:
    kind = type(exc).__name__
    return f"{kind}: {exc}" if str(exc) else kind


def _line(exc: BaseException) -> int | None:
    """The template's line that raised; jinja2 writes it into the traceback."""
    trace, line = exc.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Generation(Extension):
    """``{% generation %}`` marks text for training; here its content is rendered like any other."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads a set from the class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements of the block, in a scope of their own as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)]

    def _content(self, caller: Any) -> str:
        return str(caller())


class _Bounds(NodeTransformer):
    """Makes every loop count its iterations, and every ``~`` check the length of its result."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named after the node
        self.generic_visit(node)
        node.iter = _filtered(_PER_ITERATION, node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(_PER_JOIN, node)


def _filtered(name: str, value: nodes.Node) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno, environment=value.environment)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "+"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _check_power(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            _bounded(len(left) + len(right))
        return super().call_binop(context, operator, left, right)


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _LARGEST:
        raise SecurityError("a power with too many digits")


def _check_product(left: Any, right: Any) -> None:
    for repeated, count in ((left, right), (right, left)):
        if isinstance(repeated, (str, list, tuple)) and isinstance(count, int):
            _bounded(len(repeated) * count)


def _bounded(size: int) -> int:
    if size > LONGEST:
        raise SecurityError(f"more than {LONGEST} characters")
    return size


@jinja2.pass_context  # also keeps jinja2 from calling it at compile time
def _counted(_: Context, values: Iterable[Any]) -> Iterator[Any]:
    left = _left.get()
    for value in values:
        left[0] -= 1
        if left[0] < 0:
            raise SecurityError(f"more than {ITERATIONS} iterations of loops")
        yield value


@jinja2.pass_context
def _joined(_: Context, text: str) -> str:
    _bounded(len(text))
    return text


class _PublicNamespace(Namespace):
    """``namespace()`` without names that begin with an underscore, which Python uses itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"the name {name!r} in a namespace")
        super().__setitem__(name, value)


def _raise_exception(message: object) -> NoReturn:
    raise _Refusal(str(message))


def local_time() -> datetime:
    """The local time; replaced in tests."""
    return datetime.now().astimezone()


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters |= {"tojson": _tojson, _PER_ITERATION: _counted, _PER_JOIN: _joined}
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda format: local_time().strftime(format),
        "dict": lambda *items, **named: dict(*items, **named),  # a function: the type has further methods
        "namespace": lambda *items, **named: _namespace(dict(*items, **named)),
    }
    del environment.globals["lipsum"]
    return environment


def _namespace(values: dict[str, Any]) -> Namespace:
    found = _PublicNamespace()
    for name, value in values.items():
        found[name] = value
    return found


_ENVIRONMENT = _environment()
