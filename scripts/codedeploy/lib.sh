# What every hook shares; sourced, with HOOKS_DIR set. Hooks may be killed and run again at any point.
# shellcheck shell=bash

# Nothing on a real host; the host's folder in the embedded AWS.
ROOT=${HOOKS_DIR:?is set by the hook}
ROOT=${ROOT%/opt/codedeploy-agent/*}

step() { printf -- '-----> %s\n' "$*"; }

fail() {
    printf ' !     %s\n' "$*" >&2
    exit 1
}

trap 'fail "${BASH_SOURCE[0]}:${LINENO}: ${BASH_COMMAND} failed (exit $?)"' ERR

# Become the deploy program; the logic is there, in Python's standard library.
deploy() { # EVENT
    local host="${ROOT}/etc/lockkeeper/host" python
    [[ ${ROOT} != "${HOOKS_DIR}" ]] || fail "this is a CodeDeploy hook: it runs below /opt/codedeploy-agent/"
    : "${DEPLOYMENT_ID:?is set by the CodeDeploy agent}"
    [[ -r ${host} ]] || fail "${host} cannot be read: prepare this host with scripts/provision-host"
    python=$(sed -n 's/^PYTHON=//p' "${host}")
    "${python:-false}" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null ||
        fail "PYTHON=${python} in ${host} is not a Python of 3.11 or later; run scripts/provision-host again." \
            "Known cause: missing-interpreter (docs/hooks.md)"
    exec "${python}" -I -B "${HOOKS_DIR}/deploy" "$1" --root "${ROOT:-/}" </dev/null
}
