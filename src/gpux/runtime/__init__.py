"""How ONNX runs: devices, sessions, and what this machine offers."""
