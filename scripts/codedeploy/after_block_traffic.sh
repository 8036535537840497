#!/usr/bin/env bash
# AfterBlockTraffic: nothing to do. This one comes from the release before, so nothing may depend on it; the
# old release serves until the new one has proved itself in ApplicationStart.
set -Eeuo pipefail
shopt -s inherit_errexit

main() {
    printf -- '-----> AfterBlockTraffic: nothing to do\n'
}

main "$@"
