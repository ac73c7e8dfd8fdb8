"""Selects files of a repository by their names: formats, units, ONNX graphs, run files. Pure: reads no file.

``names`` finds a file's format, ``units`` which files belong together, ``graphs``, ``gguf_files`` and ``weights`` which
of them make up one model, ``run_files`` the other files that a run needs; ``selection`` combines them.
"""

from gpux.inspect.formats.graphs import (
    MACHINES,
    OnnxVariant,
    onnx_precisions,
    onnx_variants,
    runnable_graphs,
    shipped_onnx,
)
from gpux.inspect.formats.names import FORMATS, format_of, weight_formats
from gpux.inspect.formats.run_files import run_files
from gpux.inspect.formats.selection import SelectedFile, SelectedFiles, Selection, select
from gpux.inspect.formats.units import Unit, external_data_of, units
from gpux.inspect.formats.weights import source_weights

__all__ = [
    "FORMATS",
    "MACHINES",
    "OnnxVariant",
    "SelectedFile",
    "SelectedFiles",
    "Selection",
    "Unit",
    "external_data_of",
    "format_of",
    "onnx_precisions",
    "onnx_variants",
    "run_files",
    "runnable_graphs",
    "select",
    "shipped_onnx",
    "source_weights",
    "units",
    "weight_formats",
]
