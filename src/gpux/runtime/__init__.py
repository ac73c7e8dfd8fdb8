"""ONNX graphs on execution providers: devices, sessions, text generation, and the checks of `gpux doctor`."""
