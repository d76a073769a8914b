"""No code of the project's runs what a file or a text holds."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Of these modules, these functions alone, if any.
SAFE = {
    "pickle": {"UnpicklingError", "Unpickler"},  # a subclass says what it takes: data/package.py
    "yaml": {"safe_load", "safe_dump", "YAMLError"},
    "marshal": set(),
    "shelve": set(),
    "dill": set(),
    "joblib": set(),
}
NEVER = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "torch.hub.load"}
BY_OPTION = {"torch.load": {"weights_only": True}}
WITHOUT_OPTION = ("allow_pickle", "shell")


def unsafe(source: str) -> Iterator[str]:
    """Yield what is unsafe in Python source, by the names that modules have everywhere here."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in {*SAFE, "torch.serialization"}:
            yield f"from {node.module}"  # by its full name alone, so that it is seen here
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            allowed = SAFE.get(node.value.id)
            if allowed is not None and node.attr not in allowed:
                yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {
                keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords
            }
            if name in NEVER or name == "pickle.Unpickler":
                yield name
            for option, value in BY_OPTION.get(name, {}).items():
                if options.get(option) is not value:
                    yield f"{name} without {option}={value}"
            yield from (option for option in WITHOUT_OPTION if options.get(option, False))
            if None in options and name in BY_OPTION:
                yield f"{name}(**...)"


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=safe)",
        "torch.load(f, **options)",
        "np.load(f, allow_pickle=True)",
        "numpy.load(f, allow_pickle=1)",
        "pickle.load(f)",
        "pickle.loads(b)",
        "pickle.Unpickler(f).load()",
        "from pickle import load",
        "yaml.load(f)",
        "yaml.load(f, yaml.FullLoader)",
        "yaml.unsafe_load(f)",
        "from yaml import load",
        "marshal.loads(b)",
        "def f():\n    return eval(x)",
        "exec(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_what_is_unsafe_is_found(source: str) -> None:
    assert list(unsafe(source))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(f, map_location='cpu', weights_only=True)",
        "np.load(f)",
        "np.load(f, allow_pickle=False)",
        "class ArraysOnly(pickle.Unpickler): pass",
        "yaml.safe_load(f)",
        "model.eval()",
        "subprocess.run(x, shell=False)",
    ],
)
def test_what_is_safe_is_not(source: str) -> None:
    assert not list(unsafe(source))


def test_there_is_none_in_the_project() -> None:
    files = [
        path
        for folder in ("workflow", "csrc", "tests/gpu", "docs")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    assert len(files) > 50
    found = {path: list(unsafe(path.read_text())) for path in files}
    assert not {str(path): names for path, names in found.items() if names}


def test_nor_in_its_rules() -> None:
    """They are no plain Python; what is unsafe has no business there at all."""
    words = ("eval(", "exec(", "pickle", "import yaml", "torch.load", "os.system", "shell=True")
    for path in (REPOSITORY / "Snakefile", *(REPOSITORY / "workflow/rules").glob("*.smk")):
        assert not [word for word in words if word in path.read_text()], path
