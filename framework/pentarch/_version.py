"""The version of pentarch, read by the build."""

VERSION = "0.1.0"
"""Version of this distribution."""
