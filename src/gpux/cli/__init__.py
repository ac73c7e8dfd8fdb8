"""The command line: parse, call the library, print.

Commands import the library inside their functions, so that ``gpux --help`` and completion load neither onnxruntime nor
huggingface_hub.
"""
