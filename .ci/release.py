"""What the release workflow checks: that a tag is the version, and that the wheel holds the whole package.

    python .ci/release.py tag v0.2.0
    python .ci/release.py wheel dist/lmms_awares-0.2.0-py3-none-any.whl

Exits 1 with one line that says what is wrong.
"""

import ast
import os
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"lmms_awares/report/paper/README.md"}  # about the published tables, for readers of the repository


def version() -> str:
    """`lmms_awares.__version__`, read without importing the package."""
    text = (ROOT / "lmms_awares" / "__init__.py").read_text(encoding="utf-8")
    return str(ast.literal_eval(re.search(r"^__version__ = (.+)$", text, re.MULTILINE)[1]))


def check_tag(tag: str) -> str:
    """The tag is `v` and the version, and CHANGELOG.md has a dated section for it."""
    if tag != f"v{version()}":
        sys.exit(f"tag {tag} is not v{version()}, the version in lmms_awares/__init__.py; change one of them")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version())} - \d{{4}}-\d\d-\d\d$", changes, re.MULTILINE):
        sys.exit(f"CHANGELOG.md has no section ## {version()} - YYYY-MM-DD; write it before the tag")
    return f"{tag} is the version, and CHANGELOG.md has it"


def package_files() -> set[str]:
    """Every file of the package, behind links too (tasks/ and results/paper), as a wheel names them."""
    walk = os.walk(ROOT / "lmms_awares", followlinks=True)
    files = {Path(folder, name).relative_to(ROOT).as_posix() for folder, _, names in walk for name in names}
    return {file for file in files if "__pycache__" not in file} - LEFT_OUT


def check_wheel(wheel: str) -> str:
    """The wheel holds every file of the package."""
    wanted = package_files()
    missing = sorted(wanted - set(zipfile.ZipFile(wheel).namelist()))
    if missing:
        sys.exit(f"{wheel} lacks {', '.join(missing)}; see [tool.setuptools] in pyproject.toml")
    return f"{wheel} holds the {len(wanted)} files of the package"


if __name__ == "__main__":
    check = {"tag": check_tag, "wheel": check_wheel}[sys.argv[1]]
    print(check(sys.argv[2]))
