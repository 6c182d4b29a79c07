"""The clients, one entry each: what a machine needs for it, and how it is built and run.

Every client has the same two programs. The story is called with ``--engine HOST:PORT --history HOST:PORT --user PREFIX``, prints
``restart history`` once and waits for a line on its standard input then. Golden is called with IN_DIR OUT_DIR and writes each
message of IN_DIR back. Commands run in the client's own folder.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1]

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    ``tools`` maps what must be on the PATH to the command that prints its version, in its output's first line; ``build`` is run
    command by command; ``story`` and ``golden`` get their arguments at the end.
    """

    name: str
    tools: dict[str, Command]
    build: tuple[Command, ...]
    story: Command
    golden: Command

    @property
    def folder(self) -> Path:
        """Where its commands run."""
        return FOLDER / self.name


CLIENTS = (
    Client(
        name="python",
        tools={"python": ("python", "--version")},
        build=(("python", "-m", "venv", "--clear", "build/venv"), ("build/venv/bin/pip", "install", "--quiet", ".")),
        story=("build/venv/bin/python", "examples/story.py"),
        golden=("build/venv/bin/python", "examples/golden.py"),
    ),
    Client(
        name="go",
        tools={"go": ("go", "version")},
        build=(("go", "generate", "./..."), ("go", "vet", "./..."), ("go", "build", "-o", "bin/", "./...")),
        story=("bin/story",),
        golden=("bin/golden",),
    ),
    Client(
        name="java",
        tools={"java": ("java", "--version"), "mvn": ("mvn", "--version")},
        build=(("mvn", "--batch-mode", "--quiet", "package"),),
        story=("java", "-jar", "target/ordertape-client.jar"),
        golden=("java", "-cp", "target/ordertape-client.jar", "io.ordertape.client.Golden"),
    ),
    Client(
        name="typescript",
        tools={"node": ("node", "--version"), "npm": ("npm", "--version")},
        build=(("npm", "ci"), ("npm", "run", "build")),
        story=("npx", "tsx", "src/story.ts"),
        golden=("npx", "tsx", "src/golden.ts"),
    ),
    Client(
        name="rust",
        tools={"cargo": ("cargo", "--version")},
        build=(("cargo", "build", "--locked"),),
        story=("cargo", "run", "--quiet", "--locked", "--bin", "story", "--"),
        golden=("cargo", "run", "--quiet", "--locked", "--bin", "golden", "--"),
    ),
)
