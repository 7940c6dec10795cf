"""What a user installs: the four links, a source distribution, and a wheel that needs no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import edgec

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "compiler", "kernels", "targets")
BUILD = "from setuptools import build_meta; import sys; print(build_meta.build_{}(sys.argv[1]))"


def files(folder: Path) -> set[str]:
    """Every file below, caches left out, as paths from `folder`."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def build(kind: str, project: Path, output: Path) -> Path:
    """Build a distribution of `project` with the setuptools that is installed here."""
    output.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind), output]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("packaging")
    project = folder / "project"
    project.mkdir()
    for name in ("edgec", *FOLDERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    sdist = build("sdist", project, folder)
    subprocess.run(["tar", "-xzf", sdist.name], cwd=folder, check=True)
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)


@pytest.mark.parametrize("name", FOLDERS)
def test_links_resolve(name: str) -> None:
    link = ROOT / "edgec" / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / name).resolve()
    assert not link.readlink().is_absolute()


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    own = {f"edgec/{name}" for name in files(ROOT / "edgec") if name.split("/")[0] not in FOLDERS}
    linked = {f"edgec/{folder}/{name}" for folder in FOLDERS for name in files(ROOT / folder)}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    assert {name for name in packed if not name.startswith("edgec-")} == own | linked
    assert {Path(name).suffix for name in packed} >= {".toml", ".c", ".h", ".jinja", ".json", ".typed"}


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    # What edgec needs (a gigabyte) is lent by this environment; its own edgec comes after the wheel's.
    (installed,) = home.glob("lib/python*/site-packages")
    (installed / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run(python, "-c", "import edgec; print(edgec.__file__)").strip()).is_relative_to(installed)
    command = home / "bin" / "edgec"
    assert run(command, "--version") == f"edgec {wheel.name.split('-')[1]}\n"
    run(command, "build", ROOT / "examples/fmnist_dscnn.onnx", "--target", "host-int8")
    assert "bit-exact with the reference" in run(command, "verify", "fmnist_dscnn-host-int8.edgec")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(edgec.__file__).parent / "py.typed").is_file()
