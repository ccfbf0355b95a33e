"""The built-in partitioners."""

from collections.abc import Iterable

from pentarch import Partitioner, hookimpl


@hookimpl
def register_partitioners() -> Iterable[type[Partitioner]]:
    """Provide the partitioners `single`, `tensor` and `decoder-per-chip`."""
    from pentarch_partition.decoder_per_chip import DecoderPerChipPartitioner
    from pentarch_partition.single import SinglePartitioner
    from pentarch_partition.tensor import TensorPartitioner

    return [SinglePartitioner, TensorPartitioner, DecoderPerChipPartitioner]
