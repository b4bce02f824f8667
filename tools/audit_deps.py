"""Look for known vulnerabilities of what is shipped: `make audit-deps` asks for every pin of requirements.lock.

The exit code is 0 where all pins were looked up and none is known to be vulnerable, 1 where one is, 2 where the data
cannot be had for all: then nothing was proven, and saying "none found" would be a lie. What follows the name of the
lock file goes to pip-audit: `-s osv` asks another service.
"""

import json
import subprocess
import sys
from typing import Any

FINE, VULNERABLE, NOT_AUDITED = 0, 1, 2

_WHERE = (
    "pip-audit asks pypi.org, or with ARGS='-s osv' api.osv.dev, whatever index pip installs from (a mirror has no "
    "such data): run this where one of them is reached"
)


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print for the dependencies of a report of pip-audit."""
    vulnerable = [(pin, found) for pin in dependencies for found in pin.get("vulns", ())]
    skipped = [pin for pin in dependencies if "skip_reason" in pin]
    lines = [
        f"{pin['name']} {pin['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no release'}"
        for pin, found in vulnerable
    ]
    if len(skipped) < len(dependencies):  # else it is not the pins that something is wrong with
        lines += [f"{pin['name']}: not audited: {pin['skip_reason']}" for pin in skipped]
    lines.append(f"{len(dependencies)} pins: {len(vulnerable)} vulnerabilities, {len(skipped)} pins not audited")
    if vulnerable:
        return VULNERABLE, lines
    return (NOT_AUDITED if skipped or not dependencies else FINE), lines


def main() -> int:
    lock, *more = sys.argv[1:]
    command = ["pip-audit", "--requirement", lock, "--require-hashes", "--disable-pip", "--format", "json"]
    ran = subprocess.run([*command, "--progress-spinner", "off", *more], check=False, capture_output=True, text=True)
    try:
        dependencies = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):  # it gives up at the first trouble with the network
        why = (ran.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"{lock} was not audited, because the data cannot be had: {why}\n{_WHERE}", file=sys.stderr)
        return NOT_AUDITED
    code, lines = verdict(dependencies)
    print("\n".join(lines))
    if code == NOT_AUDITED:
        print(f"{lock} was not audited as a whole: nothing is proven\n{_WHERE}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
