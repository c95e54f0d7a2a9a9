"""Tests/Fixtures/manifest.json: byte count and SHA-256 of every fixture. `--check` compares instead of writing, and names what differs.
A folder with a make.py of its own looks after itself and is left out."""
import hashlib
import json
import sys

from common import FIXTURES

MANIFEST = FIXTURES / "manifest.json"


def entries() -> dict:
    others = [path.parent for path in FIXTURES.glob("*/make.py")]
    files = sorted(path for path in FIXTURES.rglob("*") if path.is_file() and path != MANIFEST and not any(o in path.parents for o in others))
    return {str(path.relative_to(FIXTURES)): {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in files}


def main() -> None:
    found = entries()
    if sys.argv[1:] != ["--check"]:
        MANIFEST.write_text(json.dumps(found, indent=1) + "\n")
        print(f"manifest.json: {len(found)} files, {sum(entry['bytes'] for entry in found.values())} bytes")
        return
    written = json.loads(MANIFEST.read_text())
    differing = [name for name in sorted(found.keys() | written.keys()) if found.get(name) != written.get(name)]
    print("\n".join(f"differs: {name}" for name in differing) or f"{len(found)} fixtures are as the manifest says")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
