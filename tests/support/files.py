"""What a directory holds, to the byte and the nanosecond."""

from pathlib import Path


def snapshot(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, time of change and mode of every file below a directory, and the directory's own time."""
    found = {".": (b"", directory.stat().st_mtime_ns, directory.stat().st_mode)}
    for path in sorted(directory.rglob("*")):
        stat = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (content, stat.st_mtime_ns, stat.st_mode)
    return found
