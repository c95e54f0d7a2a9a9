"""Tests/Fixtures/manifest.json: byte count and SHA-256 of every fixture. `--check` compares instead of writing, and names what differs.
Folders that begin with a capital belong to a module's own tests, are made beside them, and are left out."""
import hashlib
import json
import sys

from common import FIXTURES

MANIFEST = FIXTURES / "manifest.json"


def entries() -> dict:
    files = sorted(path for path in FIXTURES.rglob("*") if path.is_file() and path != MANIFEST)
    files = [path for path in files if not path.relative_to(FIXTURES).parts[0][0].isupper()]
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
