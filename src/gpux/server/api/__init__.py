"""The APIs: each translates requests of one protocol to calls of :class:`~gpux.server.core.Core`, and answers back.

An API is a list of :class:`~gpux.server.api.endpoint.Endpoint` and the shape of its errors.
"""
