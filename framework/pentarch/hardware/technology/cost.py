"""Cost of a designed device: die, package, memory, design and price."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from pentarch.errors import FieldError
from pentarch.hardware.technology.library import FigureLog, check_name, check_node, reading
from pentarch.hardware.technology.movement import check_memory
from pentarch.hardware.technology.quantities import Values
from pentarch.hardware.technology.yields import (
    cluster_alpha,
    defects_per_mm2,
    dies_per_wafer,
    negative_binomial_yield,
)


class Package(StrEnum):
    """How dies are mounted."""

    ORGANIC = "organic"
    """Flip chip on an organic substrate."""
    COWOS = "cowos"
    """Dies and HBM stacks on a silicon interposer on a large substrate."""


class DesignProgram(StrEnum):
    """Who designs the chip; sets the one-time cost."""

    IBS = "ibs"
    """A full product with software."""
    INCUMBENT = "incumbent"
    """An established vendor."""
    START_UP = "start_up"
    """A lean team."""


def raw_die_usd(die_mm2: Values, node: str, *, used: FigureLog | None = None) -> Values:
    """Return wafer price ÷ dies per wafer: what a die costs if every one works.

    A die of which none fits a wafer costs infinitely much.

    Args:
        die_mm2: Area of the die.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its wafer price is unknown.
    """
    log = reading(used)
    wafer_usd = log.si(f"nodes.{check_node(node)}.wafer_usd", owner=f"node {node}")
    with np.errstate(divide="ignore"):
        cost = np.float64(wafer_usd) / dies_per_wafer(die_mm2, used=log)
    return float(cost) if np.ndim(cost) == 0 else np.asarray(cost)


def whole_die_yield(die_mm2: Values, node: str, *, used: FigureLog | None = None) -> Values:
    """Return the share of dies without a defect: the negative binomial law over the whole die.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its defect density is unknown.
    """
    log = reading(used)
    defects = die_mm2 * defects_per_mm2(node, used=log)
    return negative_binomial_yield(defects, alpha=cluster_alpha(used=log))


def die_usd(
    die_mm2: Values,
    node: str,
    *,
    sellable: Values | None = None,
    used: FigureLog | None = None,
) -> Values:
    """Return the cost of a working die: wafer price ÷ (dies per wafer · yield).

    Args:
        die_mm2: Area of the die.
        node: Logic process.
        sellable: Share of dies that can be sold, for example from `harvested_yield`; by default the
            negative binomial yield of the whole die.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its wafer price or, without `sellable`, its defect density is unknown.
        FieldError: `sellable` is not within (0, 1].
    """
    log = reading(used)
    if sellable is None:
        sellable = whole_die_yield(die_mm2, node, used=log)
    check_share(sellable, "sellable")
    return raw_die_usd(die_mm2, node, used=log) / sellable


_PACKAGING = "manufacturing.packaging"


def organic_package_usd(die_mm2: Values, *, dies: int = 1, used: FigureLog | None = None) -> Values:
    """Return the cost of a flip-chip package, dies excluded.

    Substrate of 4 times the die area and bumps at Chiplet Actuary's prices, 1.5 times the substrate
    for several dies, but never less than a small package costs.

    Args:
        die_mm2: Area of all dies together.
        dies: Number of dies.
        used: Log of the figures read.

    References:
        Y. Feng, K. Ma, Chiplet Actuary, DAC 2022.
    """
    log = reading(used)
    owner = "organic package"
    substrate_usd = (
        log.si(f"{_PACKAGING}.organic_substrate", owner=owner)
        * log.si(f"{_PACKAGING}.organic_substrate_area_factor", owner=owner)
        * die_mm2
    )
    if dies > 1:
        substrate_usd = substrate_usd * log.si(
            f"{_PACKAGING}.organic_substrate_multichip_factor", owner=owner
        )
    bumps_usd = log.si(f"{_PACKAGING}.c4_bump", owner=owner) * die_mm2
    least_usd = log.si(f"{_PACKAGING}.flipchip_small_package", owner=owner)
    total = np.maximum(substrate_usd + bumps_usd, least_usd)
    return float(total) if np.ndim(total) == 0 else np.asarray(total)


def cowos_package_usd(
    die_mm2: Values, hbm_stacks: Values, *, used: FigureLog | None = None
) -> Values:
    """Return the cost of interposer, substrate and assembly service, dies and HBM excluded.

    Interposer = 1.1 · (dies + 121 mm² a stack), at the CoWoS wafer's price per mm² · 1.3 for what a
    round wafer wastes, + a large substrate.

    Args:
        die_mm2: Area of all logic dies together.
        hbm_stacks: HBM stacks.
        used: Log of the figures read.
    """
    log = reading(used)
    owner = "CoWoS package"
    stack_mm = log.si("phy_area.hbm_stack_width", owner=owner)
    factor = log.si(f"{_PACKAGING}.interposer_area_factor", owner=owner)
    interposer_mm2 = factor * (die_mm2 + hbm_stacks * stack_mm**2)
    usd_per_mm2 = log.si(f"{_PACKAGING}.cowos_s_per_mm2", owner=owner)
    usable = log.si(f"{_PACKAGING}.cowos_usable_factor", owner=owner)
    substrate_usd = log.si(f"{_PACKAGING}.large_abf_substrate", owner=owner)
    return usd_per_mm2 * usable * interposer_mm2 + substrate_usd


def bonding_yield(bonded: Values, package: Package, *, used: FigureLog | None = None) -> Values:
    """Return the share of packages in which all `bonded` dies and stacks survive mounting."""
    name = "bonding_yield_cowos" if package is Package.COWOS else "bonding_yield_organic"
    per_die = reading(used).si(f"{_PACKAGING}.{name}", owner=f"{package} package")
    survived: Values = per_die**bonded
    return survived


def memory_usd(memory: str, capacity_bytes: Values, *, used: FigureLog | None = None) -> Values:
    """Return the cost of DRAM of a type; prices are of the year that the figure states.

    Raises:
        UnknownNameError: The memory type is unknown.
        MissingFigureError: Its price is unknown.
    """
    log = reading(used)
    check_memory(memory, log)
    return capacity_bytes * log.si(f"memory.{memory}.cost", owner=f"memory {memory}")


def chip_test_usd(
    known_good_usd: Values, package: Package, *, used: FigureLog | None = None
) -> Values:
    """Return the cost of test: 5 % of the dies, or test and assembly of a CoWoS-class accelerator.

    Args:
        known_good_usd: Cost of the working dies.
        package: How they are mounted.
        used: Log of the figures read.
    """
    log = reading(used)
    if package is Package.COWOS:
        flat_usd = log.si(f"{_PACKAGING}.accelerator_test_assembly", owner="test")
        return flat_usd + 0.0 * known_good_usd
    return known_good_usd * log.si(f"{_PACKAGING}.kgd_test_sort", owner="test")


def accelerator_board_usd(*, used: FigureLog | None = None) -> float:
    """Return the cost of board, regulators and cooler of a module of 300 to 700 W."""
    return reading(used).si(f"{_PACKAGING}.ecmo_board_accelerator", owner="accelerator board")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitCost:
    """Manufacturing cost of one unit, by part."""

    dies_usd: Values
    """All working dies, yield included."""
    package_usd: Values
    """Substrate, interposer and mounting."""
    memory_usd: Values
    """All DRAM."""
    test_usd: Values
    """Sort, final test and assembly."""
    board_usd: Values = 0.0
    """Board, regulators, cooler; 0 when a chip without board is priced."""
    assembly_yield: Values = 1.0
    """Share of packages that survive mounting; `bonding_yield` reads it."""
    memory_in_package: bool = False
    """Whether DRAM is lost with a failed package, as HBM is."""

    @property
    def total_usd(self) -> Values:
        """Cost of a unit that works.

        Chip-last assembly as in Y. Feng, K. Ma, Chiplet Actuary, DAC 2022: what is in the package
        is divided by the assembly yield.

        Raises:
            FieldError: The assembly yield is not within (0, 1].
        """
        check_share(self.assembly_yield, "assembly_yield")
        packaged = self.dies_usd + self.package_usd
        beside = self.test_usd + self.board_usd
        if self.memory_in_package:
            return (packaged + self.memory_usd) / self.assembly_yield + beside
        return packaged / self.assembly_yield + self.memory_usd + beside


_NRE = "manufacturing.nre"
_PROGRAM_PATHS = MappingProxyType({
    DesignProgram.INCUMBENT: f"{_NRE}.incumbent_5nm",
    DesignProgram.START_UP: f"{_NRE}.startup_5nm_accelerator",
})  # fmt: skip
"""Design cost at n5 of the programs that are stated there only."""


def nre_usd(
    node: str,
    *,
    program: DesignProgram = DesignProgram.IBS,
    used: FigureLog | None = None,
) -> float:
    """Return the one-time cost of a design, masks and software included.

    IBS states a cost by node. The other programs are stated at n5 and follow IBS elsewhere. Three
    nodes have no IBS figure, which the log notes: n4 and n4p keep the design rules of n5 and take
    its cost; n3e stands between n5 and n2 and takes their geometric mean.

    Args:
        node: Logic process.
        program: Who designs.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
    """
    log = reading(used)
    cost_usd = _ibs_usd(check_node(node), log)
    if program is DesignProgram.IBS:
        return cost_usd
    owner = f"design program {program} at {node}"
    at_n5 = log.si(_PROGRAM_PATHS[program], owner=owner)
    return at_n5 if node in ("n5", "n4", "n4p") else at_n5 * cost_usd / _ibs_usd("n5", log)


def _ibs_usd(node: str, log: FigureLog) -> float:
    if node in ("n4", "n4p"):
        log.note(f"design cost at {node}: that of n5, whose design rules it keeps")
        return _ibs_usd("n5", log)
    if node == "n3e":
        log.note("design cost at n3e: the geometric mean of n5 and n2")
        return float(np.sqrt(_ibs_usd("n5", log) * _ibs_usd("n2", log)))
    return log.si(f"nodes.{node}.nre_usd", owner=f"design program ibs at {node}")


_MASK_SETS = {"n28": "28", "n16": "16", "n7": "7", "n5": "5", "n3e": "3"}


def mask_set_usd(node: str, *, used: FigureLog | None = None) -> float:
    """Return the price of one mask set.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: No price is stated (n10, n4, n4p, n2).
    """
    check_node(node)
    name = _MASK_SETS.get(node, node)
    return reading(used).si(f"{_NRE}.mask_set_{name}", owner=f"mask set of {node}")


def price_multiplier(channel: str, *, used: FigureLog | None = None) -> float:
    """Return selling price over manufacturing cost of a sales channel.

    Args:
        channel: `"typical_fabless"`, `"in_house"`, or a product whose margin is known: `"h100"`,
            `"b200"`, `"mi300x"`.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The channel is unknown.
    """
    log = reading(used)
    path = f"manufacturing.price_multiplier.{channel}"
    if path not in log.library.figures:
        check_name("sales channel", channel, log.library.members("manufacturing.price_multiplier"))
    return log.si(path, owner=f"channel {channel}")


def price_usd(unit_usd: Values, multiplier: Values, *, nre_usd: Values, volume: Values) -> Values:
    """Return the price of a designed device: unit cost · multiplier + NRE ÷ volume.

    Args:
        unit_usd: Manufacturing cost, `UnitCost.total_usd`.
        multiplier: Selling price over manufacturing cost, `price_multiplier`.
        nre_usd: One-time design cost.
        volume: Units over which it is spread; there is no default.

    Raises:
        FieldError: The volume is not at least 1.
    """
    if not np.all(np.asarray(volume) >= 1):
        raise FieldError(
            where="price", path="volume", problem=f"found {volume}", expected="at least 1 unit"
        )
    return unit_usd * multiplier + nre_usd / volume


def check_share(values: Values, path: str) -> None:
    """Raise a `FieldError` unless all `values` are above 0 and at most 1."""
    share = np.asarray(values)
    if not np.all((share > 0) & (share <= 1)):
        raise FieldError(
            where="cost model", path=path, problem=f"found {values}", expected="above 0, at most 1"
        )
