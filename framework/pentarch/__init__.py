"""Find hardware for transformer inference that meets five targets at once.

Names are imported when they are first used, so that `import pentarch` costs nothing. Four of them
(`evaluate`, `report`, `search`, `workload`) are packages as well; those packages are callable.
"""

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pentarch._facade import device, runtime, system, workload
    from pentarch.contracts.backend import AnyBackend, Backend, Fidelity
    from pentarch.contracts.catalog import Catalog
    from pentarch.contracts.metric import Metric
    from pentarch.contracts.partitioner import Partitioner
    from pentarch.contracts.report_section import ReportSection
    from pentarch.contracts.workload_family import WorkloadFamily
    from pentarch.errors import PentarchError
    from pentarch.evaluate.api import evaluate, partition
    from pentarch.graph.operators import OperatorKind
    from pentarch.hardware.columns import columns
    from pentarch.hardware.device import Device
    from pentarch.hardware.machine import MachineTable
    from pentarch.hardware.runtime import Runtime
    from pentarch.hardware.system import System
    from pentarch.hardware.view import View
    from pentarch.hookspecs import hookimpl
    from pentarch.plan.plan import Plan
    from pentarch.plan.sizing import devices_needed
    from pentarch.report.api import report
    from pentarch.results import Evaluation, StudyResult, Verdict
    from pentarch.search.api import search
    from pentarch.targets import Economics, Targets, judge
    from pentarch.workload.query import Precisions, Query
    from pentarch.workload.workload import Workload

__all__ = [
    "AnyBackend",
    "Backend",
    "Catalog",
    "Device",
    "Economics",
    "Evaluation",
    "Fidelity",
    "MachineTable",
    "Metric",
    "OperatorKind",
    "Partitioner",
    "PentarchError",
    "Plan",
    "Precisions",
    "Query",
    "ReportSection",
    "Runtime",
    "StudyResult",
    "System",
    "Targets",
    "Verdict",
    "View",
    "Workload",
    "WorkloadFamily",
    "columns",
    "device",
    "devices_needed",
    "evaluate",
    "hookimpl",
    "judge",
    "partition",
    "report",
    "runtime",
    "search",
    "system",
    "workload",
]


def __getattr__(name: str) -> Any:
    """Return a public name, importing the module that defines it."""
    if name == "__version__":
        return import_module("pentarch._version").VERSION
    if name not in __all__:
        raise AttributeError(f"module 'pentarch' has no attribute {name!r}")
    home = import_module("pentarch._facade").HOMES[name]
    found = getattr(import_module(home), name)
    return globals().get(name, found)  # the package of that name, where there is one


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]


class _CallablePackage(ModuleType):
    """A package of the framework that is also the public function of its name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function()(*args, **options)

    @property
    def __signature__(self) -> Signature:
        return signature(self._function())

    def _function(self) -> Any:
        name = self.__name__.rpartition(".")[2]
        home = import_module("pentarch._facade").HOMES[name]
        return getattr(import_module(home), name)


class _Facade(ModuleType):
    """The package `pentarch`; it makes those of its packages callable that are public functions."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds a package here when it is first imported, which would otherwise
        # hide the function of the same name.
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade
