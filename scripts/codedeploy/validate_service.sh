#!/usr/bin/env bash
# ValidateService: pass only when the front door answers with this release, else put the old one back.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy ValidateService
}

main "$@"
