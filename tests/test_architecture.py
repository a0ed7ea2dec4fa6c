"""The house rules that a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curation", "resources", "curation_assets", "jobs")
MODULES = [
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]

TESTS = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

HEAVY = {"torch", "dagster", "timm", "nvidia", "polars", "sklearn", "PIL", "s3fs", "typer"}


def test_import_curation_is_light() -> None:
    loaded = _modules_after("import curation")
    assert not HEAVY & loaded


def test_the_code_location_loads_no_model_library() -> None:
    loaded = _modules_after("import jobs.definitions; jobs.definitions.defs")
    assert not {"torch", "timm", "nvidia", "sklearn"} & loaded


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_belongs_in_it(module: Path) -> None:
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_is_tested_by_a_file_of_its_own_or_by_name(module: Path) -> None:
    if module.name in ("__init__.py", "base.py") or "testing" in module.parts:
        return  # families' interfaces are tested by the contract of every member
    test = ROOT / "tests" / module.parent / f"test_{module.name}"
    dotted = ".".join(module.with_suffix("").parts)
    imports = f"from {dotted} import"
    assert test.is_file() or imports in TESTS, f"{test.relative_to(ROOT)} is missing"


def _modules_after(statement: str) -> set[str]:
    code = (
        f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


SAFE_WITH = {
    "Image.open": ("formats", None),  # else PostScript is given to Ghostscript
    "np.load": ("allow_pickle", "False"),
    "torch.load": ("weights_only", "True"),
}
"""Calls that run what whoever wrote the bytes wants, without this argument; its value,
if that is not any."""

NEVER_CALLED = {
    *("eval", "exec", "os.system", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "cv2.imread"),
    *("torch.jit.load", "tar.extract", "tar.extractall", "shutil.unpack_archive"),
    *("Image.init", "Image.preinit"),
}


def test_bytes_of_strangers_run_no_program() -> None:
    found = []
    for module in MODULES:
        if "testing" in module.parts:
            continue  # opens what tests made
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            needed, value = SAFE_WITH.get(name, (None, None))
            is_safe = needed is None or (needed in given and value in (None, given[needed]))
            if not is_safe or name in NEVER_CALLED or given.get("shell") == "True":
                found.append(f"{module}:{node.lineno}: {name}")
    assert found == []
