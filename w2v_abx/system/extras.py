"""Import the packages that an extra of this one installs."""

from collections.abc import Iterator
from contextlib import contextmanager

from w2v_abx.errors import InputError

__all__ = ["extra"]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing package into an error that says which extra installs it.

    Imports of such packages stand in ``with extra(name)``, at the place where they are needed first.

    Args:
        name: an extra of ``pyproject.toml``.

    Raises:
        InputError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"the package {error.name} is missing: pip install 'w2v-abx[{name}]'") from error
