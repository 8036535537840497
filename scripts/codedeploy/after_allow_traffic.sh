#!/usr/bin/env bash
# AfterAllowTraffic: warm up once more, with the load balancer's requests among ours.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy AfterAllowTraffic
}

main "$@"
