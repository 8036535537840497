#!/usr/bin/env bash
# ApplicationStart: start this release beside the old one, prove it, then let the old one finish.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy ApplicationStart
}

main "$@"
