"""The distribution by itself: what is built of it works in an environment that has only what it asks for."""

import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest

from clients.story import checks
from clients.story.clients import CLIENTS

FOLDER = Path(__file__).parents[2] / "clients" / "python"
# What grpcio and protobuf themselves need is with them.
NEEDED = ("grpcio", "protobuf", "typing_extensions")


def run(*command: str | Path, folder: Path = FOLDER) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, FOLDER)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, grpcio and protobuf as they are installed here, and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in NEEDED:
        for file in distribution(name).files or ():
            target = site / file
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    zipfile.ZipFile(wheel).extractall(site)
    return python


def test_the_wheel_has_the_client_and_the_contract_with_their_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    generated = {f"ordertape/v1/{path.name}" for path in (FOLDER.parents[1] / "generated/ordertape/v1").glob("*.py*")}
    own = {f"ordertape/client/{path.name}" for path in (FOLDER / "src/ordertape/client").glob("*.py")}
    typed = {"ordertape/v1/py.typed", "ordertape/client/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == generated | own | typed


def test_it_asks_for_grpcio_and_protobuf_alone(python: Path) -> None:
    code = "from importlib.metadata import requires; print(*[one for one in requires('ordertape-client') if 'extra' not in one])"
    assert run(python, "-c", code).split() == ["grpcio>=1.85.1", "protobuf>=7.36.2"]
    run(python, "-c", "import ordertape.client")


def test_a_source_distribution_can_be_built_without_the_project_around_it(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path)
    shutil.unpack_archive(next(tmp_path.glob("*.tar.gz")), tmp_path, filter="data")
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path, folder=source)
    assert "ordertape/v1/order_pb2.py" in zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()


def test_it_tells_its_story_by_itself(python: Path) -> None:
    client = next(client for client in CLIENTS if client.name == "python")
    told: list[str] = []
    checks.tell(replace(client, story=(str(python), "examples/story.py")), told.append)
    assert told.count("everything was as it must be") == 2
