"""Quantization of stored float32 variants to fp16, int8 and int4, and what each precision costs.

:mod:`gpux.quantize.methods` lists how, :mod:`gpux.quantize.graphs` quantizes the graphs of one variant and measures the
loss, :mod:`gpux.quantize.variants` stores the result, :mod:`gpux.quantize.choose` is ``--precision auto``, and
:mod:`gpux.quantize.program` is the program that rewrites ONNX files in a process of its own.
"""
