"""The mapping engine: tiles, loop orders and the traffic they cause, on plain float64 arrays.

Nothing here knows plug-ins, files or pydantic. `gemm` maps matrix products behind one or two
buffer boundaries, `attention` maps fused and unfused attention, `reference` solves the
one-boundary problem again, slowly and independently. `kernels` holds the compiled inner loops
and is imported only when the first mapping is asked for.
"""
