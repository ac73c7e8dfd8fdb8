"""Limits of an operation, checked before it is executed, so that a small request cannot take much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)
from graphql.validation import ASTValidationRule

from gpux.errors import TooLargeError

_T = TypeVar("_T")

#: Of the text of an operation.
MOST_CHARACTERS = 100_000
MOST_TOKENS = 4000
MOST_COMMENTS = 1000
#: Of an operation, with its fragments written out.
DEEPEST = 16  #: the usual query of introspection has 13 levels
MOST_ALIASES = 20
MOST_FIELDS = 500
#: Fields of all elements of all lists in one answer.
MOST_VALUES = 200_000
#: Elements of a list whose fields are resolved before other requests get their turn.
SLICE = 10


class Cost:
    """The lists of one answer: how many values they have, and their elements in slices between other requests.

    The number of an operation's fields is limited before it is executed; that of its values depends on the lists.
    """

    def __init__(self) -> None:
        self._values = 0
        self._turn = asyncio.Lock()

    def elements(self, info: GraphQLResolveInfo[Any], found: Sequence[_T]) -> AsyncIterator[_T]:
        """The elements of the list that a field has.

        Raises:
            TooLargeError: the answer would have more than :data:`MOST_VALUES`.
        """
        self.add(len(found) * sum(_fields(node.selection_set, info) for node in info.field_nodes))
        return self._sliced(found)

    def add(self, values: int) -> None:
        """Count values.

        Raises:
            TooLargeError: see :meth:`elements`.
        """
        self._values += values
        if self._values > MOST_VALUES:
            raise TooLargeError(
                f"the answer would have {self._values} values or more, and at most {MOST_VALUES} are allowed",
                hint="Ask for fewer fields, name each list once, or give a limit or a search.",
                limit=MOST_VALUES,
            )

    async def _sliced(self, found: Sequence[_T]) -> AsyncIterator[_T]:
        for place, one in enumerate(found):
            if place % SLICE == 0:
                async with self._turn:  # of several lists, one at a time
                    await asyncio.sleep(0)
            yield one


def _fields(selections: SelectionSetNode | None, info: GraphQLResolveInfo[Any]) -> int:
    """The fields of one element, with fragments written out; those below are counted where their lists are."""
    if selections is None:
        return 1
    total = 0
    for one in selections.selections:
        if isinstance(one, FieldNode):
            total += 1 if one.selection_set is None else _fields(one.selection_set, info)
        elif isinstance(one, FragmentSpreadNode):
            total += _fields(info.fragments[one.name.value].selection_set, info)
        elif isinstance(one, InlineFragmentNode):
            total += _fields(one.selection_set, info)
    return total


class Limits(ASTValidationRule):
    """Refuses operations that are too deep, or have too many aliases or fields.

    Fragments are counted where they are used. Their sums are kept, so that fragments that use others twice each are
    counted without writing them out.
    """

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        """Called for each operation."""
        self._sums: dict[str, tuple[int, int, int]] = {}
        depth, aliases, fields = self._of(node.selection_set, frozenset())
        for found, most, what in (
            (depth, DEEPEST, "levels"),
            (aliases, MOST_ALIASES, "aliases"),
            (fields, MOST_FIELDS, "fields"),
        ):
            if found > most:
                self.report_error(
                    GraphQLError(f"the operation has {found} {what}, and at most {most} are allowed", node)
                )

    def _of(self, selections: SelectionSetNode | None, using: frozenset[str]) -> tuple[int, int, int]:
        """Levels, aliases and fields below a node; a fragment that uses itself is refused by another rule."""
        depth = aliases = fields = 0
        for one in () if selections is None else selections.selections:
            below, more_aliases, more_fields = self._below(one, using)
            if isinstance(one, FieldNode):
                below, more_fields = below + 1, more_fields + 1
                more_aliases += one.alias is not None
            depth = max(depth, below)
            aliases, fields = aliases + more_aliases, fields + more_fields
        return depth, aliases, fields

    def _below(self, node: Any, using: frozenset[str]) -> tuple[int, int, int]:
        if not isinstance(node, FragmentSpreadNode):
            return self._of(node.selection_set, using)
        name = node.name.value
        fragment = self.context.get_fragment(name)
        if fragment is None or name in using:
            return 0, 0, 0
        if name not in self._sums:
            self._sums[name] = self._of(fragment.selection_set, using | {name})
        return self._sums[name]
