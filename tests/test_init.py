import subprocess
import sys

import pytest

import pruneinit


def test_every_public_name_is_there_and_has_a_home():
    assert sorted(pruneinit.__all__) == sorted([*pruneinit._HOME, "meanfield", "models"])
    for name in pruneinit.__all__:
        assert getattr(pruneinit, name).__name__.rpartition(".")[2] == name
        assert name in dir(pruneinit)


def test_no_module_hides_a_public_function():
    import pkgutil

    assert not {module.name for module in pkgutil.iter_modules(pruneinit.__path__)} & set(pruneinit._HOME)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'prunne'"):
        pruneinit.prunne  # noqa: B018


def test_help_does_not_import_torch():
    code = (
        "import sys; from pruneinit.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
