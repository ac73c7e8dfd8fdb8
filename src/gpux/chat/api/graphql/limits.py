"""Limits of an operation, checked before it is executed, so that a small request cannot take much."""

from __future__ import annotations

from typing import Any

from graphql import FieldNode, FragmentSpreadNode, GraphQLError, OperationDefinitionNode, SelectionSetNode
from graphql.validation import ASTValidationRule

#: Of the text of an operation.
MOST_CHARACTERS = 100_000
MOST_TOKENS = 4000
MOST_COMMENTS = 1000
#: Of an operation, with its fragments written out.
DEEPEST = 16  #: the usual query of introspection has 13 levels
MOST_ALIASES = 20
MOST_FIELDS = 500


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
