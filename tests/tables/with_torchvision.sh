#!/bin/sh
# The table of families where torchvision is installed: in an environment beside this one, which stays without it.
# usage: PYTHON=.venv/bin/python tests/tables/with_torchvision.sh FOLDER [NAME ...]
set -eu
folder=$1
shift
python=${PYTHON:-python}
"$python" -m venv --without-pip "$folder"
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$site" >"$own/beside.pth"
"$python" -m pip install --quiet --no-deps --target "$own" torchvision
exec "$folder/bin/python" -W ignore -m tests.tables.families "$@"
