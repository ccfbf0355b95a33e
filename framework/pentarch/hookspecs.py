"""The hooks that plug-ins implement. Arguments are only ever added, never removed.

Every hook runs once, when the registry loads, and hands classes over; inner loops call methods.
Two plug-ins that provide the same name are an error that names both; nobody wins silently.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pentarch.contracts.backend import Backend
    from pentarch.contracts.catalog import Catalog
    from pentarch.contracts.metric import Metric
    from pentarch.contracts.partitioner import Partitioner
    from pentarch.contracts.report_section import ReportSection
    from pentarch.contracts.workload_family import WorkloadFamily

PROJECT = "pentarch"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_backends() -> Iterable[type["Backend[Any]"]]:
    """Return the back-end classes that the plug-in provides."""
    raise AssertionError("a hook specification is never called")


@hookspec
def register_partitioners() -> Iterable[type["Partitioner"]]:
    """Return the partitioner classes that the plug-in provides."""
    raise AssertionError("a hook specification is never called")


@hookspec
def register_workload_families() -> Iterable[type["WorkloadFamily"]]:
    """Return the workload-family classes that the plug-in provides."""
    raise AssertionError("a hook specification is never called")


@hookspec
def register_metrics() -> Iterable[type["Metric"]]:
    """Return the metric classes that the plug-in provides; each can be an objective of a search."""
    raise AssertionError("a hook specification is never called")


@hookspec
def register_report_sections() -> Iterable[type["ReportSection"]]:
    """Return the report-section classes that the plug-in provides."""
    raise AssertionError("a hook specification is never called")


@hookspec
def register_catalogs() -> Iterable["Catalog"]:
    """Return the packages of YAML files (workloads, devices, runtimes, systems, spaces) provided."""
    raise AssertionError("a hook specification is never called")
