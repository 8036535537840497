#!/usr/bin/env bash
# BeforeInstall: refuse what must not be installed here, before anything changes.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy BeforeInstall
}

main "$@"
