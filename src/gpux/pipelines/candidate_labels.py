"""Labels that a call names, for the tasks that compare an input with texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpux.errors import UsageError


def labels(given: Any) -> list[str]:
    """The value of ``candidate_labels``: a list, or one text with commas, as a list.

    Raises:
        UsageError: no labels, or one of another type.
    """
    if isinstance(given, str):
        given = [label.strip() for label in given.split(",") if label.strip()]
    if not isinstance(given, Sequence) or not given:
        raise UsageError("no labels were given", hint='Give them: candidate_labels=["cat", "dog"].')
    for label in given:
        if not isinstance(label, str):
            raise UsageError(f"candidate_labels has {label!r}, which is not a text", hint="Give texts.")
    return list(given)


def filled(template: Any, label: str, example: str) -> str:
    """A label in its place of ``hypothesis_template``.

    Args:
        template: a text with one ``{}``.
        label: written there.
        example: of a template, for the hint.

    Raises:
        UsageError: the template has no such place, or several.
    """
    if not isinstance(template, str) or template.count("{}") != 1:
        raise UsageError(
            f"hypothesis_template is {template!r}, which has no place for a label",
            hint=f"Write {{}} where the label stands: {example!r}.",
        )
    return template.replace("{}", label)
