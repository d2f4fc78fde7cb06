"""Finding the example workflows, in an installed distribution as well as in a clone."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import agentrt
from agentrt.errors import AgentRTError

_PACKAGE = Path(agentrt.__file__).parent
ROOTS = (_PACKAGE / "_examples", _PACKAGE.parent / "examples")
"""Where a wheel puts the examples, and where they lie in a clone."""


def load_example(name: str) -> ModuleType:
    """Import `examples/<name>` as the package `agentrt_example_<name>`.

    By path, so that neither the working directory nor another project's `examples` package matters. Raises
    AgentRTError when no such example is there.
    """
    module_name = f"agentrt_example_{name}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    folder = next((root / name for root in ROOTS if (root / name / "__init__.py").is_file()), None)
    if folder is None:
        looked = " or ".join(str(root) for root in ROOTS)
        raise AgentRTError(f"no example {name!r} in {looked}; reinstall agentrt or run from a full clone")
    spec = importlib.util.spec_from_file_location(
        module_name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise AgentRTError(f"cannot import the example in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
