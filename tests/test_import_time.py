"""What is imported when: `import kka` and `kka --help` are quick because the heavy libraries wait."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "torchvision", "transformers", "trl", "peft", "diffusers", "sklearn", "scipy", "matplotlib", "pandas",
    "datasets", "pyarrow", "accelerate",
}  # fmt: skip


def loaded(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}


def test_import_kka_is_light() -> None:
    """One eager import of torch makes every `import kka` take seconds; the package alone needs not even numpy."""
    assert not loaded("import kka") & (HEAVY | {"numpy", "PIL", "rich", "tyro"})


def test_the_command_line_is_light() -> None:
    """`kka --help` within a second: the parser must be built without the libraries that the commands use."""
    code = "import kka.cli\ntry: kka.cli.main(['run', '--help'])\nexcept SystemExit as e: assert e.code == 0"
    assert not loaded(code) & HEAVY


@pytest.mark.parametrize(
    "module", ["kka.data", "kka.imaging", "kka.language", "kka.detectors", "kka.algorithm.captions"]
)
def test_the_wings_registries_are_light(module: str) -> None:
    """An unknown spec is refused before a library is loaded for it."""
    assert not loaded(f"import {module}") & (HEAVY - {"scipy", "pandas"})
