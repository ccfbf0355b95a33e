"""The abstract classes that plug-ins implement, and what they exchange with the framework."""
