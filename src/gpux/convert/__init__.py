"""Conversion of a model's weights to ONNX: converters, their toolchains, and the choice among them.

A converter is a :class:`~gpux.convert.spec.ConverterSpec`, registered by an entry point. Its exporter runs in a worker
process in the converter's toolchain (:mod:`gpux.convert.host`); the workers of gpux's own converters are in
:mod:`gpux.convert.worker`. What a converter writes is proven by :mod:`gpux.proof`.
"""
