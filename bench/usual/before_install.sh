#!/usr/bin/env bash
# A fresh start: what an older revision left here must not be in the way of this one.
set -euo pipefail
ROOT=${BASH_SOURCE[0]%/opt/codedeploy-agent/*}

rm -rf "${ROOT}/srv/usual"
