#!/bin/sh
# The table of families where torchvision is installed, in an environment of its own with a torch that fits it: this one
# stays without. usage: tests/tables/with_torchvision.sh FOLDER [NAME ...]
set -eu
folder=$1
shift
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet --editable ".[dev]" torchvision
# Where only a CPU build of torch is to be had, torchvision's compiled half does not load; its Python half is what is needed.
export PYTHONPATH="tests/engines/environment${PYTHONPATH:+:$PYTHONPATH}"
exec "$folder/bin/python" -W ignore -m tests.tables.families "$@"
