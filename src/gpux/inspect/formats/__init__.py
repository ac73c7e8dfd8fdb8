"""What a list of file names says: formats, units, ONNX variants, and what a pull needs. Pure: nothing is read.

``names`` tells a file's format and precision, ``units`` which files belong together, ``graphs``, ``gguf`` and
``weights`` which of them make one model, ``run`` what it needs besides, and ``selection`` puts them together.
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
