#!/usr/bin/env bash
# The environment, the migrations and the static files.
set -euo pipefail
ROOT=${BASH_SOURCE[0]%/opt/codedeploy-agent/*}

cd "${ROOT}/srv/usual"
python3 -m venv venv
# The wheels are in the bundle, so that no network is in the comparison.
venv/bin/pip install --quiet --no-index --find-links wheelhouse -r requirements.txt
set -a
# shellcheck source=/dev/null
source "${ROOT}/etc/lockkeeper/usual.env"
venv/bin/python manage.py migrate --noinput
venv/bin/python manage.py collectstatic --noinput
