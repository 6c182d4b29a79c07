"""Puts the generated code, which the whole project shares, into what is built of this folder."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Generated(BuildHookInterface[Any]):
    """Adds ordertape/v1. A source distribution has it already, under src, and has no project around it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build."""
        root = Path(self.root)
        generated = root.parents[1] / "generated" / "ordertape" / "v1"
        if version == "editable" or not generated.is_dir():
            return
        folder = "ordertape/v1" if self.target_name == "wheel" else "src/ordertape/v1"
        build_data["force_include"] |= {
            str(generated): folder,
            # Says that the stubs are to be used; a file of its own, since a build takes each file once.
            str(root / "src" / "v1.typed"): f"{folder}/py.typed",
        }
