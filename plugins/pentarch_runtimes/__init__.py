"""Software stacks: a plug-in that holds only data."""
