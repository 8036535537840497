#!/usr/bin/env bash
# AfterInstall: make the environment and the release, check it, collect static files, migrate.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy AfterInstall
}

main "$@"
