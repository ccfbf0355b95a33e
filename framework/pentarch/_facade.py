"""What `import pentarch as pa` offers: where each public name lives, and four look-ups.

The default library holds every installed plug-in; it is built once, when it is first needed.
"""

import os
from types import MappingProxyType
from typing import TYPE_CHECKING

from pentarch.catalog import default_library

if TYPE_CHECKING:
    from pentarch.hardware.device import Device
    from pentarch.hardware.runtime import Runtime
    from pentarch.hardware.system import System
    from pentarch.workload.workload import Workload

HOMES = MappingProxyType(
    {
        "AnyBackend": "pentarch.contracts.backend",
        "Backend": "pentarch.contracts.backend",
        "Catalog": "pentarch.contracts.catalog",
        "Device": "pentarch.hardware.device",
        "Economics": "pentarch.targets",
        "Evaluation": "pentarch.results",
        "Fidelity": "pentarch.contracts.backend",
        "MachineTable": "pentarch.hardware.machine",
        "Metric": "pentarch.contracts.metric",
        "OperatorKind": "pentarch.graph.operators",
        "Partitioner": "pentarch.contracts.partitioner",
        "PentarchError": "pentarch.errors",
        "Plan": "pentarch.plan.plan",
        "Precisions": "pentarch.workload.query",
        "Query": "pentarch.workload.query",
        "ReportSection": "pentarch.contracts.report_section",
        "Runtime": "pentarch.hardware.runtime",
        "StudyResult": "pentarch.results",
        "System": "pentarch.hardware.system",
        "Targets": "pentarch.targets",
        "Verdict": "pentarch.results",
        "View": "pentarch.hardware.view",
        "Workload": "pentarch.workload.workload",
        "WorkloadFamily": "pentarch.contracts.workload_family",
        "columns": "pentarch.hardware.columns",
        "device": "pentarch._facade",
        "devices_needed": "pentarch.plan.sizing",
        "evaluate": "pentarch.evaluate.api",
        "hookimpl": "pentarch.hookspecs",
        "judge": "pentarch.targets",
        "partition": "pentarch.evaluate.api",
        "report": "pentarch.report.api",
        "runtime": "pentarch._facade",
        "search": "pentarch.search.api",
        "system": "pentarch._facade",
        "workload": "pentarch._facade",
    }
)
"""Module that defines each public name."""


def workload(name: str | os.PathLike[str]) -> "Workload":
    """Return a workload.

    Args:
        name: A name of the catalog, or the path of a `config.json` or of a YAML file.

    Raises:
        UnknownNameError: Nothing is called so, or no family reads the configuration.
        InputError: The file is unreadable or wrong.

    Examples:
        >>> import pentarch as pa
        >>> pa.workload("llama-3-8b").hidden
        4096
    """
    return default_library().workload(name)


def system(name: str | os.PathLike[str]) -> "System":
    """Return a system.

    Args:
        name: A system or device of the catalog, `Nx` a device, or the path of a YAML file.

    Raises:
        UnknownNameError: Nothing is called so.
        FieldError: A field of its file is wrong.

    Examples:
        >>> import pentarch as pa
        >>> pa.system("8xh100_sxm").devices
        8
    """
    return default_library().system(name)


def device(name: str | os.PathLike[str]) -> "Device":
    """Return a device as the device model of its back-end.

    Args:
        name: A name or alias of the catalog, or the path of a YAML file.

    Raises:
        UnknownNameError: No device is called so.
        FieldError: A field of its file is wrong.
    """
    return default_library().device(name)


def runtime(name: str | os.PathLike[str]) -> "Runtime":
    """Return a runtime: the software stack on a machine.

    Args:
        name: A name of the catalog, or the path of a YAML file.

    Raises:
        UnknownNameError: No runtime is called so.
        FieldError: A field of its file is wrong.
    """
    return default_library().runtime(name)
