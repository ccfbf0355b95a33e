"""The device of the machine that this runs on before anything was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pentarch.validation.this_machine_facts import MachineFacts
from pentarch.validation.this_machine_timing import CACHE_BYTES

CORE_BYTES_PER_S = 12e9
"""Prior of the bandwidth of one core; that of all is so many times more, up to MOST_BYTES_PER_S."""
MOST_BYTES_PER_S = 3e11
"""Prior of the bandwidth of many cores: eight channels of DDR5."""
DEFAULTS = {
    "clock_hz": 3e9,
    "simd_bytes_per_cycle": 16.0,
    "l2_bytes": 2.0**20,
    "l3_bytes": CACHE_BYTES,
}
"""Assumed where the operating system does not say: clock, SIMD width, L2 of a core, L3 per core."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A device before anything was measured: facts, and assumptions where there are none."""

    values: Mapping[str, Any]
    """Fields of the device."""
    sources: Mapping[str, Mapping[str, str]]
    """Source and grade by field."""
    notes: tuple[str, ...]
    """What is not known."""

    @classmethod
    def of(cls, facts: MachineFacts, name: str) -> "Draft":
        """Return the device that facts describe."""
        system = {"source": f"operating system: {facts.model or 'name unknown'}", "grade": "pub"}
        assumed = {"source": "assumption: nothing on this machine says it", "grade": "asm"}
        derived = {
            "source": "from the instruction sets that the operating system lists",
            "grade": "der",
        }
        total = min(CORE_BYTES_PER_S * facts.cores, MOST_BYTES_PER_S)
        values: dict[str, Any] = {
            "name": name, "about": f"{facts.model or 'Unknown processor'}, measured.", "cores": facts.cores,
            "memory": "ddr5", "memory_channels": 1, "channel_bytes_per_s": total,
            "memory_efficiency": 1.0, "core_bytes_per_s": CORE_BYTES_PER_S,
        }  # fmt: skip
        sources = {"*": assumed, "cores": system}
        stated = {
            "clock_hz": facts.clock_hz, "simd_bytes_per_cycle": facts.simd_bytes_per_cycle,
            "l2_bytes": facts.l2_bytes, "l3_bytes": facts.l3_bytes, "memory_bytes": facts.memory_bytes,
        }  # fmt: skip
        defaults = {
            **DEFAULTS, "l3_bytes": DEFAULTS["l3_bytes"] * facts.cores, "memory_bytes": 2.0**33,
        }  # fmt: skip
        missing = [field for field, value in stated.items() if value is None]
        values |= {
            field: defaults[field] if value is None else value for field, value in stated.items()
        }
        sources |= {field: system for field, value in stated.items() if value is not None}
        if facts.simd_bytes_per_cycle is not None:
            sources["simd_bytes_per_cycle"] = derived
        notes = [f"not known, assumed: {', '.join(missing)}"] if missing else []
        notes.append("not known: power limit, price, type of memory (taken as ddr5), year")
        for field, rates in (
            ("dot_macs_per_cycle", facts.dot_macs_per_cycle),
            ("matrix_macs_per_cycle", facts.matrix_macs_per_cycle),
        ):
            if rates:
                values[field], sources[field] = rates, derived
        if facts.matrix_macs_per_cycle:
            values["matrix_unit"], sources["matrix_unit"] = "AMX", derived
        return cls(values, sources, tuple(notes))
