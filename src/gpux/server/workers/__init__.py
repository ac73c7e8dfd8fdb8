"""The processes that run models: one for each loaded model.

``messages`` is what the two sides send each other and ``framing`` how it is written to a pipe. ``worker`` is the
server's side of one process, ``program`` is the process itself, and ``engine`` runs the model in it.
"""
