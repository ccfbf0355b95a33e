"""Energy of arithmetic: MACs by format, node and voltage, and published scalar operations."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pentarch.errors import FieldError
from pentarch.hardware.technology.library import FigureLog, check_name, check_node, reading
from pentarch.hardware.technology.quantities import Values
from pentarch.model import Model
from pentarch.workload.formats import Arithmetic, NumberFormat, number_format

_N7_OPERATIONS = "operations.jouppi_7nm"
_MAC_TABLE = "operations.mac_energy_model.n7"
_DOT_TABLE = "operations.mac_energy_model.n7_dot_product"

_FLOAT_ADDERS = MappingProxyType({"fp16": "fp_add_16", "bf16": "bf16_add", "fp32": "fp_add_32"})
"""Published adder of each float accumulator."""
_FLOAT_MULTIPLIERS = MappingProxyType({8: "bf16_mult", 11: "fp_mult_16", 24: "fp_mult_32"})
"""Published multiplier of each significand width."""
_INTEGER_ACCUMULATORS = MappingProxyType({"int16": 16, "int24": 24, "int32": 32})
"""Width of each integer accumulator."""
_TABLE_FORMATS = frozenset({"int4", "int8", "fp4", "fp8", "bf16", "fp16", "fp32"})
"""Formats that have rows in the recommended tables."""
_DOT_PRODUCTS = MappingProxyType(
    {2: "fp4_acc32", 4: "fp8_acc32", 8: "bf16_acc32", 11: "fp16_acc32"}
)
"""Rows of the table of dot-product units by the width of both significands."""
_REFERENCE = "bf16"
"""Format in which the datapath overhead of GPUs was found."""


class MacFormats(Model):
    """What a multiply-accumulate unit multiplies and adds into."""

    a: str
    """Format of the first operand; storage formats count as the format they run in."""
    b: str
    """Format of the second operand."""
    accumulator: str
    """`"fp16"`, `"bf16"`, `"fp32"`, `"int16"`, `"int24"` or `"int32"`."""
    fused_products: int | None = None
    """Products summed in one tree before an addition; `None` takes the recommended table where it
    has the formats (its fp8 and fp4 rows halve the adder), one addition per product elsewhere."""

    def resolved(self) -> tuple[NumberFormat, NumberFormat]:
        """Return both operands' number formats.

        Raises:
            UnknownNameError: A format or the accumulator is unknown.
            FieldError: An integer meets a float, or the accumulator is of another kind.
        """
        first, second = (number_format(number_format(name).compute) for name in (self.a, self.b))
        known = (*_FLOAT_ADDERS, *_INTEGER_ACCUMULATORS)
        check_name("accumulator", self.accumulator, known)
        if first.arithmetic is not second.arithmetic:
            raise FieldError(
                where="MacFormats",
                path="b",
                problem=f"{first.name} and {second.name} cannot be multiplied directly",
                expected="the format that the MAC runs in after dequantization, for both operands",
            )
        is_float = first.arithmetic is Arithmetic.FLOAT
        if is_float is not (self.accumulator in _FLOAT_ADDERS):
            raise FieldError(
                where="MacFormats",
                path="accumulator",
                problem=f"{self.accumulator} cannot add {first.name} products",
                expected="a float accumulator for floats, an integer one for integers",
            )
        if self.fused_products is not None and self.fused_products < 1:
            raise FieldError(
                where="MacFormats",
                path="fused_products",
                problem=f"found {self.fused_products}",
                expected="at least 1",
            )
        return first, second

    def table_key(self) -> str | None:
        """Return the row of the recommended tables for these formats; `None` for no row."""
        first, second = self.resolved()
        if self.fused_products is not None or first.name != second.name:
            return None
        bits = "".join(c for c in self.accumulator if c.isdigit())
        if self.accumulator == "bf16" or first.name not in _TABLE_FORMATS:
            return None
        return f"{first.name}_acc{bits}"


class DynamicOverhead(StrEnum):
    """Style of the datapath around a MAC whose static power is added separately."""

    GPU = "gpu"
    SYSTOLIC = "systolic"
    HARDWIRED = "hardwired"


class AllInOverhead(StrEnum):
    """Style of the datapath around a MAC, for an energy that already contains static power."""

    GPU = "datapath_gpu"
    SYSTOLIC = "datapath_systolic"
    HARDWIRED = "datapath_hardwired"


@dataclass(frozen=True, slots=True, eq=False)
class AllInMacEnergy:
    """Energy of a MAC that already contains its share of static power.

    It is no number: adding a static term to it would be a double count, and is a type error.
    """

    j_per_mac: Values
    """Joules per MAC at full load, static power included."""

    @property
    def w_per_pflops(self) -> Values:
        """Watts per 1e15 FLOPs a second of datapath alone, at 2 FLOPs a MAC."""
        return self.j_per_mac / 2.0 * 1e15


def node_energy_ratio(node: str, *, used: FigureLog | None = None) -> float:
    """Return the switching energy of `node` relative to N7, each at its nominal voltage.

    Foundry iso-speed power claims, compounded (`nodes.*.energy_vs_n7`).

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: No ratio is known for it (n10).
    """
    return reading(used).si(f"nodes.{check_node(node)}.energy_vs_n7", owner=f"node {node}")


def bare_mac_j(
    formats: MacFormats,
    node: str,
    *,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return joules of one multiplication and its addition, without anything around them.

    E = E_N7 · energy ratio of the node · (V/Vnom)². E_N7 is the recommended table where it has the
    formats. Elsewhere, floats: the published multiplier where both significands have 8, 11 or 24
    bits, else the bf16 multiplier · (m_a · m_b / 64), m the significands with hidden bit, + the
    accumulator's adder once per MAC or 1/L of it for L fused products. Integers:
    8-bit multiplier · (bits_a · bits_b / 64) + 32-bit adder · width / 32 (how the table's int4
    row is derived); 32-bit by 32-bit uses the published multiplier.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together.
        MissingFigureError: The node's energy ratio is unknown.

    References:
        N. Jouppi et al., Ten Lessons From Three Generations Shaped Google's TPUv4i, ISCA 2021,
        Table 2 (7 nm operations).
    """
    log = reading(used)
    first, second = formats.resolved()
    key = formats.table_key()
    owner = f"a {first.name} x {second.name} MAC into {formats.accumulator}"
    if key is not None and f"{_MAC_TABLE}.{key}" in log.library.figures:
        n7_j = log.si(f"{_MAC_TABLE}.{key}", owner=owner)
    else:
        adder_j = _adder_j(formats.accumulator, log, owner) / (formats.fused_products or 1)
        n7_j = _multiplier_j(first, second, log, owner) + adder_j
    return n7_j * node_energy_ratio(node, used=log) * voltage_ratio**2


def dot_product_mac_j(
    formats: MacFormats,
    node: str,
    *,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return joules of one MAC in a unit that sums several products in one tree, bare.

    Matrix units of GPUs align the products of a short dot product, add them as integers and
    normalize once. Floats of up to 11 significand bits into fp32 have a row for it; the rest has
    nothing to share (integers) or runs in units that add one product at a time (fp32), and is
    `bare_mac_j`.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together.
        MissingFigureError: The node's energy ratio is unknown.

    References:
        M. Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330,
        2021 (products are aligned and added without normalization in between).
    """
    log = reading(used)
    first, second = formats.resolved()
    row = _DOT_PRODUCTS.get(first.mantissa_bits)
    is_shared = (
        first.arithmetic is Arithmetic.FLOAT
        and first.mantissa_bits == second.mantissa_bits
        and formats.accumulator == "fp32"
        and formats.fused_products is None
    )
    if row is None or not is_shared:
        return bare_mac_j(formats, node, voltage_ratio=voltage_ratio, used=log)
    owner = f"a {first.name} x {second.name} dot product into fp32"
    n7_j = log.si(f"{_DOT_TABLE}.{row}", owner=owner)
    return n7_j * node_energy_ratio(node, used=log) * voltage_ratio**2


def _mean_bits(formats: MacFormats) -> float:
    """Return the mean width of both operands, in bits."""
    first, second = formats.resolved()
    return (first.element_bits + second.element_bits) / 2.0


def mac_j(
    formats: MacFormats,
    node: str,
    *,
    overhead: DynamicOverhead,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return dynamic joules per MAC with its datapath overhead and without static power.

    Add leakage times time to it: the overheads 1.75 / 1.4 / 1.3 leave static power out.

    In a systolic or hardwired array they multiply the bare MAC. In a GPU, E = E_unit + e · b: the
    unit (`dot_product_mac_j`) and what brings b bits of each operand to it. Registers, operand
    paths, issue and clock of an instruction handle as many bits whatever they stand for, so a
    narrower format pays less of them for each MAC: halved with the width. The overhead 1.75 holds in
    bf16, the format that it was found in, and gives e = (1.75 · E_bare(bf16) - E_unit(bf16)) / 16 bit.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        overhead: Style of the datapath: register files, operand paths, control and clock.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together, or the overhead contains static power.
        MissingFigureError: The node's energy ratio is unknown.
    """
    if not isinstance(overhead, DynamicOverhead):
        raise FieldError(
            where="mac_j",
            path="overhead",
            problem=f"found {overhead!r}, which is no overhead without static power",
            expected="a DynamicOverhead; `all_in_mac` takes an AllInOverhead",
        )
    log = reading(used)
    factor = log.si(
        f"operations.mac_energy_model.overhead_without_static.{overhead}", owner="MAC overhead"
    )
    if overhead is not DynamicOverhead.GPU:
        return factor * bare_mac_j(formats, node, voltage_ratio=voltage_ratio, used=log)
    reference = MacFormats(a=_REFERENCE, b=_REFERENCE, accumulator="fp32")
    at_reference_j = factor * bare_mac_j(reference, node, voltage_ratio=voltage_ratio, used=log)
    unit_j = dot_product_mac_j(reference, node, voltage_ratio=voltage_ratio, used=log)
    delivered = _mean_bits(formats) / _mean_bits(reference)
    around_j = (at_reference_j - unit_j) * delivered
    return dot_product_mac_j(formats, node, voltage_ratio=voltage_ratio, used=log) + around_j


def all_in_mac(
    formats: MacFormats,
    node: str,
    *,
    overhead: AllInOverhead,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> AllInMacEnergy:
    """Return the energy of a MAC at full load, static power included, for W/PFLOPS estimates.

    The overheads 2.5 / 2.0 come from TDP less HBM power of H100 and TPU v4 in bf16, so they are no
    independent check on those two chips.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        overhead: Style of the datapath.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together, or the overhead leaves static power out.
        MissingFigureError: The node's energy ratio is unknown.
    """
    if not isinstance(overhead, AllInOverhead):
        raise FieldError(
            where="all_in_mac",
            path="overhead",
            problem=f"found {overhead!r}, which is no overhead with static power",
            expected="an AllInOverhead; `mac_j` takes a DynamicOverhead",
        )
    log = reading(used)
    factor = log.si(f"operations.mac_energy_model.overhead.{overhead}", owner="MAC overhead")
    bare_j = bare_mac_j(formats, node, voltage_ratio=voltage_ratio, used=log)
    return AllInMacEnergy(j_per_mac=factor * bare_j)


def _multiplier_j(first: NumberFormat, second: NumberFormat, log: FigureLog, owner: str) -> float:
    if first.arithmetic is Arithmetic.FLOAT:
        product = first.mantissa_bits * second.mantissa_bits
        published = _FLOAT_MULTIPLIERS.get(first.mantissa_bits)
        if published is not None and first.mantissa_bits == second.mantissa_bits:
            return log.si(f"{_N7_OPERATIONS}.{published}.energy", owner=owner)
        return log.si(f"{_N7_OPERATIONS}.bf16_mult.energy", owner=owner) * product / 64.0
    if first.mantissa_bits == second.mantissa_bits == 32:
        return log.si(f"{_N7_OPERATIONS}.int_mult_32.energy", owner=owner)
    product = first.mantissa_bits * second.mantissa_bits
    return log.si(f"{_N7_OPERATIONS}.int_mult_8.energy", owner=owner) * product / 64.0


def _adder_j(accumulator: str, log: FigureLog, owner: str) -> float:
    if accumulator in _FLOAT_ADDERS:
        return log.si(f"{_N7_OPERATIONS}.{_FLOAT_ADDERS[accumulator]}.energy", owner=owner)
    width = _INTEGER_ACCUMULATORS[accumulator]
    return log.si(f"{_N7_OPERATIONS}.int_add_32.energy", owner=owner) * width / 32.0


class OperationKind(StrEnum):
    """Class of a scalar operation in the published tables."""

    INTEGER = "integer"
    FLOAT = "float"
    CACHE = "cache"
    DRAM = "dram"


_OPERATIONS = MappingProxyType({
    "int_add_8": OperationKind.INTEGER, "int_add_16": OperationKind.INTEGER,
    "int_add_32": OperationKind.INTEGER, "int_mult_8": OperationKind.INTEGER,
    "int_mult_32": OperationKind.INTEGER,
    "fp_add_16": OperationKind.FLOAT, "fp_add_32": OperationKind.FLOAT,
    "fp_mult_16": OperationKind.FLOAT, "fp_mult_32": OperationKind.FLOAT,
    "sram_8KiB_64b": OperationKind.CACHE, "sram_32KiB_64b": OperationKind.CACHE,
    "sram_1MiB_64b": OperationKind.CACHE, "dram_64b": OperationKind.DRAM,
})  # fmt: skip


class OperationEnergy(Model):
    """Energy of one scalar operation or 64-bit memory access."""

    operation: str
    """Name, for example `"fp_mult_16"` or `"sram_1MiB_64b"`."""
    kind: OperationKind
    """Class of the operation."""
    process: str
    """`"n45"` or a node of the library."""
    energy_j: float | None
    """Joules per operation or access; `None` when no table states it."""


def operation_energies(
    process: str, *, used: FigureLog | None = None
) -> tuple[OperationEnergy, ...]:
    """Return what scalar operations and 64-bit accesses cost in one process.

    `"n45"` is Horowitz's table at 0.9 V and `"n7"` Jouppi's. Other nodes are Jouppi's on-chip
    figures times the node's energy ratio. DRAM is off chip and keeps its DDR3/4 figure.

    Args:
        process: `"n45"` or a node of the library.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The process is neither.
        MissingFigureError: The node's energy ratio is unknown.

    References:
        M. Horowitz, Computing's energy problem, ISSCC 2014; N. Jouppi et al., ISCA 2021, Table 2.
    """
    log = reading(used)
    if process == "n45":
        table, ratio, dram = "operations.horowitz_45nm_0v9", 1.0, "dram_64b"
    else:
        table, ratio, dram = _N7_OPERATIONS, node_energy_ratio(process, used=log), "ddr3_4_64b"
    rows = []
    for name, kind in _OPERATIONS.items():
        is_dram = kind is OperationKind.DRAM
        path = f"{table}.{dram if is_dram else name}.energy"
        energy_j = log.si_or_none(path, owner=name)
        if energy_j is not None and not is_dram:
            energy_j *= ratio
        rows.append(OperationEnergy(operation=name, kind=kind, process=process, energy_j=energy_j))
    return tuple(rows)
