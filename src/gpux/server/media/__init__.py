"""Pictures and sounds of requests: uploads, data URLs, base64 and, where the server allows it, http(s) addresses.

Nothing is decoded here: the process of a model does that, within limits that it checks first.
"""
