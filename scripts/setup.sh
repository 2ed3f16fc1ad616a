#!/bin/sh
# Starts setup.py under any Python that is new enough to run it; setup.py then looks for the right one.
set -eu
cd "$(dirname "$0")/.."
for python in python3 python3.12 python3.11 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        exec "$python" scripts/setup.py "$@"
    fi
done
echo "error: Python 3.11 or 3.12 is needed, and no python3 on this machine starts or is newer than 3.7." \
    "Install one of them (Debian, Ubuntu: apt install python3 python3-venv)." >&2
exit 2
