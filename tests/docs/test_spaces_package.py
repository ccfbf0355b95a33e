from importlib import resources

from pentarch.catalog import default_library


def test_the_package_of_spaces_holds_data_and_its_hook_only() -> None:
    files = {file.name for file in resources.files("pentarch_spaces").iterdir() if file.is_file()}
    spaces = {name for name in files if name.endswith(".yaml")}

    assert files - spaces == {"__init__.py", "plugin.py", "py.typed"}
    assert "edge-soc.yaml" in spaces
    listed = {entry.name for entry in default_library().names("space")}
    assert {name.removesuffix(".yaml") for name in spaces} <= listed
