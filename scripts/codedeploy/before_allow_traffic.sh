#!/usr/bin/env bash
# BeforeAllowTraffic: warm up before the load balancer sends requests.
set -Eeuo pipefail
shopt -s inherit_errexit

HOOKS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "${HOOKS_DIR}/lib.sh"

main() {
    deploy BeforeAllowTraffic
}

main "$@"
