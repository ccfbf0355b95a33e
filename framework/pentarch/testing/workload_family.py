"""Conformance of workload families, on configurations that the plug-in author gives."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pentarch.contracts.workload_family import WorkloadFamily
from pentarch.errors import FieldError, InputError
from pentarch.graph.build import build_graph
from pentarch.graph.operators import Phase
from pentarch.testing.checks import (
    Conformance,
    check_describes_itself,
    check_is_stateless,
    require,
)
from pentarch.workload.parameters import parameters
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

_WHERE = "sample/config.json"
_WRONG_SIZES: tuple[object, ...] = (0, -1, 1.5, [], {"a": 1}, "many")


@dataclass(frozen=True, slots=True)
class WorkloadFamilyCase:
    """A workload family and a configuration that it reads."""

    family: WorkloadFamily
    """The family under test."""
    config: Mapping[str, Any]
    """A complete configuration, as parsed from a config.json."""

    def workload(self, config: Mapping[str, Any] | None = None) -> Workload:
        """Return the workload of the configuration, or of another one."""
        chosen = self.config if config is None else config
        return self.family.import_workload(chosen, name="sample", where=_WHERE)


def check_class_describes_itself(case: WorkloadFamilyCase) -> None:
    """The class has a name, a line about itself and the model types that it reads."""
    check_describes_itself(case.family, ("name", "about"))
    require(bool(case.family.model_types), "model_types is empty, so no config.json reaches it.")


def check_workload_names_its_origin(case: WorkloadFamilyCase) -> None:
    """A workload carries the name asked for and the name of the family."""
    workload = case.workload()
    found = (workload.name, workload.family)
    require(found == ("sample", case.family.name), f"The workload says {found}.")


def check_workload_has_a_graph(case: WorkloadFamilyCase) -> None:
    """A workload builds graphs of its phases that hold its parameters.

    Decode behind an encoder leaves out the encoder; an encoder alone has no decode phase.
    """
    workload = case.workload()
    counts = parameters(workload)
    query = Query(prompt_tokens=4, output_tokens=3 if workload.generates else 1)
    stored = counts.total - workload.unused_parameters
    for phase in Phase if workload.generates else (Phase.PREFILL,):
        graph = build_graph(workload, phase=phase, query=query, precisions=Precisions())
        require(graph.flops > 0, f"The {phase} graph does no work.")
        if phase is Phase.DECODE and workload.encoder is not None:
            require(graph.parameters < stored, "The decode graph holds the encoder.")
            continue
        require(
            graph.parameters == stored,
            f"The {phase} graph holds {graph.parameters} parameters, the workload {stored}.",
        )


def check_workload_survives_json(case: WorkloadFamilyCase) -> None:
    """A workload is the same after a round trip through JSON."""
    workload = case.workload()
    again = Workload.model_validate_json(workload.model_dump_json())
    require(again == workload, "The workload changed in JSON.")


def check_configuration_is_left_alone(case: WorkloadFamilyCase) -> None:
    """Reading a configuration does not change it, and gives the same workload again."""
    config = copy.deepcopy(dict(case.config))
    first = case.workload(config)
    require(config == case.config, "The configuration was changed while it was read.")
    require(case.workload(config) == first, "The second reading gave another workload.")
    check_is_stateless(case.family)


def check_a_missing_field_is_named(case: WorkloadFamilyCase) -> None:
    """Without a field, a configuration reads all the same or the error names file and field."""
    for name in case.config:
        _read_or_refuse(case, {key: value for key, value in case.config.items() if key != name})


def check_a_wrong_value_is_refused(case: WorkloadFamilyCase) -> None:
    """A size that is zero, negative, a fraction or a list is an error that names file and field."""
    for name, value in _sizes(case.config):
        for wrong in _WRONG_SIZES:
            _read_or_refuse(case, {**case.config, name: wrong})
        require(isinstance(value, int), f"{name} is {value!r}.")


def _read_or_refuse(case: WorkloadFamilyCase, config: Mapping[str, Any]) -> None:
    try:
        case.workload(config)
    except FieldError as error:
        require(_WHERE in str(error), f"The error does not name the file: {error}")
        require(bool(error.path), f"The error names no field: {error}")
    except InputError as error:
        require(_WHERE in str(error), f"The error does not name the file: {error}")


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 1:
            yield name, value


WORKLOAD_FAMILY_CHECKS: tuple[Callable[[WorkloadFamilyCase], None], ...] = (
    check_class_describes_itself,
    check_workload_names_its_origin,
    check_workload_has_a_graph,
    check_workload_survives_json,
    check_configuration_is_left_alone,
    check_a_missing_field_is_named,
    check_a_wrong_value_is_refused,
)
"""All checks of a workload family."""


class WorkloadFamilyConformance(Conformance):
    """Holds a workload family against its contract; the subclass gives `family` and `configs`."""

    checks = WORKLOAD_FAMILY_CHECKS

    @pytest.fixture
    def family(self) -> WorkloadFamily:
        """Return the family under test."""
        pytest.fail(f"{type(self).__name__} needs a fixture `family`.")

    @pytest.fixture
    def configs(self) -> Sequence[Mapping[str, Any]]:
        """Return complete configurations that the family reads."""
        pytest.fail(f"{type(self).__name__} needs a fixture `configs`.")

    @pytest.mark.parametrize("check", WORKLOAD_FAMILY_CHECKS, ids=lambda check: check.__name__)
    def test_conforms(
        self,
        check: Callable[[WorkloadFamilyCase], None],
        family: WorkloadFamily,
        configs: Sequence[Mapping[str, Any]],
    ) -> None:
        """The family keeps one part of its contract on all configurations."""
        self.run(check, [WorkloadFamilyCase(family, config) for config in configs])
