"""Validation: predictions held against files of measurements and of proven optima."""
