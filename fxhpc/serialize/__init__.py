"""Functions, arguments, results and exceptions to bytes and back.

The client packs functions and arguments and unpacks results and exceptions; a worker does the
rest, by a `Loader`. `calls` and `data` are pickle where pickle serves; `pickler` packs by value
what a worker cannot import; `classes` keeps classes the same on both sides; `fresh` keeps modules
up to date. `sharing` finds large arguments that come again, `segments` says how the packed ones
refer to them, and `bodies` has them in a worker. `spilled` has results that lie in files. `chunks`
are many calls in one task. `content` tells whether calls and functions are the same, whoever has
packed them, by `telling`.
`initializers` are run before the functions of an Executor, which then share globals: `spaces`.
"""

from fxhpc.serialize.calls import ArgumentPacker, load_arguments, pack_arguments
from fxhpc.serialize.chunks import Calls, Chunk, pack_calls, rows_of, unpack_chunk
from fxhpc.serialize.data import pack_or_spill, pack_result, unpack_result
from fxhpc.serialize.ends import Ends, KeptEnds
from fxhpc.serialize.exceptions import RemoteExceptionWrapper, pack_exception, unpack_exception
from fxhpc.serialize.functions import FunctionPacker, PackedFunction, pack_function
from fxhpc.serialize.initializers import Initializer, pack_initializer
from fxhpc.serialize.loader import Loader

__all__ = [
    "ArgumentPacker",
    "Calls",
    "Chunk",
    "Ends",
    "FunctionPacker",
    "Initializer",
    "KeptEnds",
    "Loader",
    "PackedFunction",
    "RemoteExceptionWrapper",
    "load_arguments",
    "pack_arguments",
    "pack_calls",
    "pack_exception",
    "pack_function",
    "pack_initializer",
    "pack_or_spill",
    "pack_result",
    "rows_of",
    "unpack_chunk",
    "unpack_exception",
    "unpack_result",
]
