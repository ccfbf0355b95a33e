"""Custom SoCs: arrays, scratchpads and memory on a chip that is yet to be made."""
