#!/bin/bash
# What the runner's simulator starts: its routes first, then the endpoint program.
set -e
/setup.sh
if [ "$ROLE" = client ]; then
    /wait-for-it.sh sim:57832 -s -t 10
fi
exec /venv/bin/python /interop/endpoint.py
