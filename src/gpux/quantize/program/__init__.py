"""The program that quantizes stored graphs in a process of its own: needs onnx and numpy, and never runs a graph."""
