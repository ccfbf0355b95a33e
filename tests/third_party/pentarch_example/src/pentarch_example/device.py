"""What can be chosen about an Example NPU."""

from pydantic import NonNegativeFloat, PositiveFloat

from pentarch import Device


class NpuDevice(Device):
    """One output-stationary systolic array behind one scratchpad, with memory beside it."""

    rows: PositiveFloat
    """Multiply-accumulate units from top to bottom of the array."""
    columns: PositiveFloat
    """Multiply-accumulate units from left to right."""
    clock_hz: PositiveFloat
    """Clock of array and scratchpad."""
    mac_j: NonNegativeFloat
    """Energy of one int8 multiply-accumulate."""
    scratchpad_bytes: PositiveFloat
    """Capacity of the scratchpad, half of which holds the tile in use."""
    scratchpad_j_per_byte: NonNegativeFloat
    """Energy of reading or writing a byte of the scratchpad."""
    memory_bytes: PositiveFloat
    """Capacity of the memory."""
    memory_bytes_per_s: PositiveFloat
    """Bandwidth of the memory, shared by reads and writes."""
    memory_j_per_byte: NonNegativeFloat
    """Energy of reading or writing a byte of the memory."""
    lanes: PositiveFloat
    """Values that the vector unit handles per cycle."""
    static_w: NonNegativeFloat | None = None
    """Power that does not depend on the work; `None` when unknown."""
