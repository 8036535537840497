#!/usr/bin/env bash
# The new code.
set -euo pipefail

systemctl restart usual
