"""Run every benchmark at its small size, one after the other: ``python -m benchmarks``.

Each prints what it shows and its bars; for the sizes that figures in the README come from,
run one by itself, as its first lines say.
"""

import ast
import subprocess
import sys
from pathlib import Path

NO_BENCHMARKS = {"__main__", "paired", "peer_loops", "photographs"}


def main() -> int:
    """Run all; give how many failed."""
    failed = []
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.stem in NO_BENCHMARKS:
            continue
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        print(f"\n== {file.stem}: {about.splitlines()[0]}", flush=True)
        if subprocess.run([sys.executable, str(file), "--quick"], check=False).returncode:
            failed.append(file.stem)
    print(f"\nfailed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
