"""The program that runs inside a toolchain."""
