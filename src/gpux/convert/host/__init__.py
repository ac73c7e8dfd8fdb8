"""Running a converter in a worker process, in an isolated toolchain."""
