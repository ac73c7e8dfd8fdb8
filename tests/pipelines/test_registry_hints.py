"""The hint for a task without a pipeline names what helps."""

from __future__ import annotations

import re

import pytest

from gpux import errors, pipeline
from gpux.pipelines.registry import pipeline_class


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("text-generatoin", "Did you mean 'text-generation'?"),
        ("feature_extracton", "Did you mean 'feature-extraction'?"),
        ("sentiment", "Did you mean 'sentiment-analysis'?"),
        ("fill", "Did you mean 'fill-mask'?"),
        ("foo", "Name one of these tasks, for example '"),
        ("text-to-video", "`gpux pull --task text-to-video`"),
    ],
)
def test_a_task_without_a_pipeline(task: str, hint: str) -> None:
    with pytest.raises(errors.UnsupportedTaskError, match="no pipeline for the task") as caught:
        pipeline(task, "org/name")

    assert hint in (caught.value.hint or "")
    named = re.search(r"'([a-z0-9-]+)'", caught.value.hint or "")
    if named:
        assert pipeline_class(named[1])
