"""Tool calls and reasoning: read from the answers of models, and enforced by a grammar where a call is required.

A :class:`~gpux.pipelines.chat.tools.chosen.Parts` says how a model writes both, by its chat template; it makes the
parser of an answer, which is fed with text in any pieces. Servers get the same by ``Generate.parsing`` of
:mod:`gpux.server.workers.messages`, whose replies have the parts apart, so that every API reads them from there.
"""
