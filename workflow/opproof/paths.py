"""Where the files that are not Python lie: in the repository, or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_REPOSITORY = _PACKAGE.parents[1]

# A wheel carries them as opproof/tree/ (see pyproject.toml), laid out as in the repository.
TREE = _PACKAGE / "tree" if (_PACKAGE / "tree").is_dir() else _REPOSITORY

SNAKEFILE = TREE / "Snakefile"
CONFIG = TREE / "config.yaml"
CSRC = TREE / "csrc"
SCHEMAS = TREE / "workflow" / "schemas"
STARTERS = TREE / "workflow" / "starters"
TEMPLATES = TREE / "workflow" / "report"
