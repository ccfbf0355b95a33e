"""What the operating system says of the processor that this runs on; what it does not say is `None`."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_SIZE = re.compile(r"^(\d+)([KMG]?)$")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_WIDE_AMD_FAMILY = 26
"""Family of AMD cores from which on a 512-bit instruction takes one cycle of a port (Zen 5)."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """A processor as its operating system describes it."""

    model: str | None = None
    """Name of the processor."""
    cores: int = 1
    """Physical cores that this process may use."""
    threads: int = 1
    """Hardware threads that this process may use."""
    clock_hz: float | None = None
    """Largest clock stated."""
    flags: frozenset[str] = frozenset()
    """Instruction sets, as Linux names them."""
    is_intel: bool = False
    """Whether Intel made it: its 512-bit ports take a whole instruction per cycle."""
    family: int | None = None
    """Number of the core's family on x86."""
    l2_bytes: float | None = None
    """Second-level cache of one core."""
    l3_bytes: float | None = None
    """Last-level caches together."""
    memory_bytes: float | None = None
    """Memory that the process may use."""

    @property
    def simd_bytes_per_cycle(self) -> float | None:
        """Bytes of vector registers that the FMA ports take per cycle; `None` when not known."""
        if "avx512f" in self.flags:
            is_wide = self.is_intel or (self.family or 0) >= _WIDE_AMD_FAMILY
            return 128.0 if is_wide else 64.0
        if "avx2" in self.flags or "fma" in self.flags:
            return 64.0
        if self.flags & {"asimd", "neon"}:
            return 32.0
        return None

    @property
    def dot_macs_per_cycle(self) -> dict[str, float]:
        """Rates of instructions for narrow words, by format: what their width allows."""
        width = self.simd_bytes_per_cycle
        if width is None:
            return {}
        found = {}
        if self.flags & {"avx512_vnni", "avx_vnni", "asimddp", "i8mm"}:
            found["int8"] = width
        if self.flags & {"avx512_bf16", "bf16"}:
            found["bf16"] = width / 2.0
        return found

    @property
    def matrix_macs_per_cycle(self) -> dict[str, float]:
        """Rates of the matrix unit by format; empty without one that is known."""
        rates = {
            "amx_int8": ("int8", 1024.0),
            "amx_bf16": ("bf16", 512.0),
            "amx_fp16": ("fp16", 512.0),
        }
        return dict(entry for flag, entry in rates.items() if flag in self.flags)


def read_facts(root: Path = Path("/")) -> MachineFacts:
    """Return what is known of the processor that this runs on.

    Args:
        root: Folder in which `proc` and `sys` lie.
    """
    info = _cpu_info(_text(root / "proc/cpuinfo"))
    allowed = _allowed()
    folder = root / "sys/devices/system/cpu"
    caches = _caches(folder, allowed)
    family = info.get("cpu family")
    return MachineFacts(
        model=info.get("model name") or platform.processor() or platform.machine() or None,
        cores=min(_cores(folder, allowed), _quota(root) or len(allowed)), threads=len(allowed),
        clock_hz=_clock(folder, info), family=int(family) if family and family.isdigit() else None,
        flags=frozenset((info.get("flags") or info.get("Features") or "").split()),
        is_intel=info.get("vendor_id") == "GenuineIntel",
        l2_bytes=caches.get(2), l3_bytes=caches.get(3), memory_bytes=_memory(root),
    )  # fmt: skip


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _cpu_info(text: str | None) -> dict[str, str]:
    """Return the fields of the first processor, with the largest clock of all."""
    found: dict[str, str] = {}
    clocks = []
    for line in (text or "").splitlines():
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if colon:
            found.setdefault(name, value)
            if name == "cpu MHz":
                clocks.append(value)
    if clocks:
        found["cpu MHz"] = max(clocks, key=_number)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _allowed() -> tuple[int, ...]:
    """Return the hardware threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _cores(folder: Path, allowed: tuple[int, ...]) -> int:
    """Return the physical cores behind some hardware threads; each its own where nothing says so."""
    found = set()
    for thread in allowed:
        place = folder / f"cpu{thread}" / "topology"
        found.add(
            (_text(place / "physical_package_id") or "", _text(place / "core_id") or str(thread))
        )
    return max(len(found), 1)


def _quota(root: Path) -> int | None:
    """Return the cores that a control group leaves, rounded up; `None` without a limit."""
    words = (_text(root / "sys/fs/cgroup/cpu.max") or "").split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return max(-(-int(words[0]) // int(words[1])), 1)


def _clock(folder: Path, info: dict[str, str]) -> float | None:
    most = _text(folder / "cpu0/cpufreq/cpuinfo_max_freq")
    if most is not None and most.isdigit():
        return float(most) * 1e3
    clock = _number(info.get("cpu MHz", ""))
    return clock * 1e6 if clock > 0 else None


def _caches(folder: Path, allowed: tuple[int, ...]) -> dict[int, float]:
    """Return bytes by level: of one core's cache on level 2, of all caches together on level 3."""
    seen: dict[tuple[int, str], float] = {}
    for thread in allowed:
        for place in sorted((folder / f"cpu{thread}" / "cache").glob("index*")):
            level, kind, size, shared = (
                _text(place / name) for name in ("level", "type", "size", "shared_cpu_list")
            )
            match = _SIZE.match(size or "")
            if level and level.isdigit() and match and kind != "Instruction":
                seen[int(level), shared or str(thread)] = int(match[1]) * _UNITS[match[2]]
    found: dict[int, float] = {}
    for (number, _), size_bytes in seen.items():
        found[number] = size_bytes if number < 3 else found.get(number, 0.0) + size_bytes
    return found


def _memory(root: Path) -> float | None:
    limits = []
    match = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    if match:
        limits.append(float(match[1]) * 1024)
    group = _text(root / "sys/fs/cgroup/memory.max")
    if group is not None and group.isdigit():
        limits.append(float(group))
    if not limits and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    return min(limits) if limits else None
